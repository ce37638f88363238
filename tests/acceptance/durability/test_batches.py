"""Batches whose processes are killed, on each store that outlives them; and their memory."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from cano import Kernel, RunStatus, Workflow
from cano.testing import survives_crashes

from tests.acceptance.durability import feeder
from tests.acceptance.durability.shared import ONLY
from tests.peak import PEAK

STORES = ["sqlite", "postgres", "redis"]


def feed(url: str, effects: Path, inputs: int, kill_after: int) -> subprocess.CompletedProcess[str]:
    """Feed the batch in a process of its own."""
    program = [sys.executable, str(feeder.__file__), url, str(effects), str(inputs), str(kill_after)]
    return subprocess.run(program, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.parametrize("kind", STORES)
async def test_killed_at_random(kind: str, url_of: Callable[[str], str], tmp_path: Path) -> None:
    """Every input has one run that ends once, and a run that has ended is never executed again."""
    url, effects, chance, kills = url_of(kind), tmp_path / "effects", random.Random(kind), 0
    ended: set[int] = set()
    before = 0
    while (process := feed(url, effects, 40, chance.randint(5, 25))).returncode == -signal.SIGKILL:
        kills += 1
        lines = [int(line) for line in effects.read_text().split()]
        assert ended.isdisjoint(lines[before:])
        before = len(lines)
        async with Kernel(store=url, **ONLY) as kernel:
            records = await kernel.runs(parent="b")
            ended = {int(run.run_id.removeprefix("b/")) for run in records if run.status.finished}
    assert (process.returncode, process.stderr) == (0, "")
    assert json.loads(process.stdout) == [40, 35, 5, 0, "all"]
    assert kills >= 1

    times = Counter(map(int, effects.read_text().split()))
    assert times.keys() == set(range(1, 41))
    assert sum(times.values()) <= 40 + 5 * kills
    async with Kernel(store=url, **ONLY) as kernel:
        view = await kernel.get("b")
        statuses = Counter([run.status async for run in kernel.runs(parent="b")])
    assert view.status is RunStatus.SUCCEEDED
    assert statuses == {RunStatus.SUCCEEDED: 35, RunStatus.FAILED: 5}


@pytest.mark.parametrize(
    ("kind", "flow", "counts"),
    [
        ("sqlite", feeder.all_of_them, (3, 2, 1, 0, "all")),
        ("postgres", feeder.first_success, (3, 1, 0, 2, "quota")),
        ("redis", feeder.too_many_failures, (3, 2, 1, 0, "quota unreachable")),
    ],
    ids=["all", "first success", "too many failures"],
)
def test_killed_at_each_write(
    kind: str, url_of: Callable[[str], str], flow: Workflow[str], counts: tuple[int, int, int, int, str]
) -> None:
    """Wherever its process is killed, a batch has the same counts, and ends by the same condition."""
    data = survives_crashes(flow, store=url_of(kind)).outcome.data
    assert tuple(data[name] for name in ("inputs", "succeeded", "failed", "cancelled", "ended_by")) == counts


def peak(tmp_path: Path, inputs: int) -> int:
    """The peak memory, in KiB, of a process that feeds `inputs` inputs to a batch on an SQLite file."""
    program = (
        "import asyncio, sys; from tests.acceptance.durability import feeder;"
        f"asyncio.run(feeder.main(*sys.argv[1:])); print({PEAK})"
    )
    url = f"sqlite:///{tmp_path}/{inputs}.db?synchronous=normal"
    arguments = [sys.executable, "-c", program, url, "/dev/null", str(inputs), "-1"]
    printed = subprocess.run(arguments, capture_output=True, text=True, timeout=100, check=True).stdout
    return int(printed.split()[-1])


def test_memory_does_not_grow_with_the_inputs(tmp_path: Path) -> None:
    """Neither results nor children are kept: 4,000 more inputs take less than 500 bytes each."""
    few, many = peak(tmp_path, 2_000), peak(tmp_path, 6_000)

    assert many - few < 2_000  # KiB; SQLite's cache takes up to 1,000
