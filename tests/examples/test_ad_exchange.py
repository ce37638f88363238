"""The exchange sells to the highest of the first five bids and uses the first server's answer."""

from __future__ import annotations

import runpy
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

OutputOf = Callable[..., list[str]]


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    """The example's names."""
    return runpy.run_path(str(Path(__file__).parents[2] / "examples" / "ad_exchange.py"))


def sale(example: dict[str, Any], view: str) -> tuple[int, str, str] | None:
    """Compute the result of a page view without a workflow."""
    bidders = [(*example["behaviour"](bidder, view), place) for place, bidder in enumerate(example["BIDDERS"])]
    bids = sorted((seconds, place, cents) for seconds, breaks, cents, place in bidders if not breaks and seconds < 0.1)
    servers = [(*example["behaviour"](server, view), server) for server in example["SERVERS"]]
    in_time = sorted((seconds / 10, server) for seconds, breaks, _, server in servers if not breaks)
    if len(bids) < 5 or not in_time or in_time[0][0] > 0.05:
        return None
    cents, place = max((cents, -place) for _, place, cents in bids[:5])
    return cents, example["BIDDERS"][-place], in_time[0][1]


@pytest.mark.parametrize(("views", "seed"), [(1000, 1), (300, 7)])
def test_sales_are_as_foreseen(output_of: OutputOf, example: dict[str, Any], views: int, seed: int) -> None:
    """All printed numbers equal those of a direct computation; no auction takes longer than its timeouts."""
    sales = [sale(example, f"{seed}.{number}") for number in range(views)]
    sold = [one for one in sales if one is not None]

    first, second, won, served = output_of("ad_exchange", str(views), "--seed", str(seed))

    assert first == f"{views} page views: {len(sold)} sold, {views - len(sold)} without an ad"
    assert 0.5 * views < len(sold) < views
    assert second.startswith(f"{sum(cents for cents, _, _ in sold) / 100:.2f} earned; the slowest took ")
    assert 50 < float(second.split()[-2]) <= 150
    for line, column in ((won, 1), (served, 2)):
        counts = Counter(str(one[column]).replace("  ", " ") for one in sold)
        shown = [part.rsplit(" ", 1) for part in line.split(": ")[1].split(", ")]
        assert [int(count) for _, count in shown] == sorted(counts.values(), reverse=True)[:3]
        assert all(counts[name] == int(count) for name, count in shown)


def test_the_same_seed_gives_the_same_sales(output_of: OutputOf) -> None:
    """The output does not depend on the machine."""
    assert (
        output_of("ad_exchange", "50")
        == output_of("ad_exchange", "50")
        != output_of("ad_exchange", "50", "--seed", "2")
    )
