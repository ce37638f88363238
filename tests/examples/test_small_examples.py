"""The output of each small example."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable

import pytest

OutputOf = Callable[..., list[str]]
RunPython = Callable[..., subprocess.CompletedProcess[str]]


def test_quickstart_counts_words(output_of: OutputOf) -> None:
    """Each word is counted, in the order of its first mention."""
    assert output_of("quickstart") == ["DONE {'the': 2, 'more': 1, 'merrier': 1}"]


def test_mixed_retries_the_call_only(output_of: OutputOf) -> None:
    """The second call succeeds, and unusable readings are left out of the mean."""
    mean = (11.5 + 12.0 + 14.5 + 13.0) / 4

    assert [
        "calling Zugspitze, attempt 1",
        "calling Zugspitze, attempt 2",
        f"Zugspitze: 11.5 to 14.5 degrees, mean {mean}; 4 of 6 readings usable",
    ] == output_of("mixed_tasks_and_nodes")


def test_orders_take_every_way(output_of: OutputOf) -> None:
    """Every exit is reached; rejected orders are never packed, shipped ones at most three times."""
    header, *lines = output_of("order_processing")
    columns = [re.split(r"\s{2,}", line, maxsplit=4) for line in lines]
    orders = {name: (outcome, int(packed), int(failed), note) for name, outcome, packed, failed, note in columns}

    assert header == "order  outcome   packed  failed calls  note"
    assert [f"A-{number}" for number in range(1, 9)] == list(orders)
    assert {"SHIPPED", "REJECTED", "ON_HOLD"} == {outcome for outcome, *_ in orders.values()}
    assert orders["A-3"] == ("REJECTED", 0, 0, "5 x chair ordered, 4 in stock")
    assert orders["A-7"] == ("REJECTED", 0, 0, "nothing ordered")
    assert orders["A-5"][-1] == "1 x piano ordered, 0 in stock; 0 x lamp ordered, 20 in stock"
    # the warehouse never answers for a sofa: one call and four retries
    assert orders["A-8"] == ("ON_HOLD", 0, 5, "the warehouse does not answer")
    for name, (outcome, packed, _, note) in orders.items():
        if outcome == "SHIPPED":
            assert 1 <= packed <= 3
            # VALIDATE, then PACK and INSPECT for each packing, then SHIP
            assert f"parcel {name}:{2 + 2 * packed}" == note
    assert any(packed > 1 for _, packed, _, _ in orders.values())


def test_orders_end_alike_every_time(output_of: OutputOf) -> None:
    """The random numbers depend only on the orders' ids."""
    assert output_of("order_processing") == output_of("order_processing")


def test_loan_is_paid_off_to_the_cent(output_of: OutputOf) -> None:
    """Payments add up to the loan and its interest; a loan that cannot be repaid is rejected at once."""
    owed, interest = 100_000, 0
    expected: list[str] = []
    while owed:
        interest, owed = interest + round(owed / 100), owed + round(owed / 100)
        paid = min(20_000, owed)
        owed -= paid
        expected.append(f"month {len(expected) + 1:2}: paid {paid / 100:7.2f}, still owed {owed / 100:8.2f}")
    expected.append(f"PAID_OFF after {len(expected)} months, {interest / 100:.2f} interest")

    assert [*expected, "HOPELESS after 0 months, 0.00 interest"] == output_of("dataclass_store")


@pytest.mark.parametrize("seed", [*range(1, 8), -1, 2**70])
def test_negotiation_is_fair_and_ends(output_of: OutputOf, seed: int) -> None:
    """No party passes its limit or takes an offer back, and the negotiation ends within eight rounds."""
    first, *rounds, last = output_of("negotiation", str(seed))
    least, most = map(int, re.findall(r"\d+", first))
    asks = [int(line.split()[-1]) for line in rounds if "seller asks" in line]
    offers = [int(line.split()[-1]) for line in rounds if "buyer offers" in line]

    assert sorted(asks, reverse=True) == asks
    assert sorted(offers) == offers
    assert all(ask >= least for ask in asks)
    assert all(offer <= most for offer in offers)
    assert len(asks) <= 8
    if agreed := re.fullmatch(r"agreed on (\d+) in round \d", last):
        assert least <= int(agreed[1]) <= most
    else:
        assert re.fullmatch(r"no deal: \d+ asked, \d+ offered in round 8", last)


def test_negotiation_can_end_both_ways(output_of: OutputOf) -> None:
    """The result depends only on the seed."""
    runs = {seed: output_of("negotiation", str(seed)) for seed in range(1, 8)}

    assert {"agreed", "no"} == {lines[-1].split()[0] for lines in runs.values()}
    assert runs[1] == output_of("negotiation") == output_of("negotiation", "1")


def test_negotiation_refuses_a_seed_that_is_no_number(run_example: RunPython) -> None:
    """A wrong seed is a usage error with a message that shows it."""
    done = run_example("negotiation", "often")

    assert (done.returncode, done.stdout) == (2, "")
    assert "invalid int value: 'often'" in done.stderr
