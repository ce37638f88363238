"""Promise 13: when thousands of runs wake at one moment, no body is begun twice, unless its process was stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from cano import Kernel

from tests.acceptance.durability.pipes import LinePipe
from tests.acceptance.durability.sleepers import LEASE, Worker

ROOT = Path(__file__).parents[3]
RUNS, WAIT = (3000, 20.0) if os.environ.get("CANO_SOAK") else (300, 4.0)
"""How many runs there are, and seconds in which they are parked, before they wake; more on a machine that is busy."""


class Begin(NamedTuple):
    """One body that was begun."""

    at: float
    process: int


class Stall(NamedTuple):
    """A time in which a process stood still, long enough to lose its leases."""

    process: int
    since: float
    until: float


class Seen(LinePipe):
    """What the workers say, read from the pipe as they say it."""

    def __init__(self, path: Path) -> None:
        self.begun: dict[str, list[Begin]] = defaultdict(list)
        self.ended: set[str] = set()
        self.renewals: Counter[int] = Counter()
        self.stalls: list[Stall] = []
        super().__init__(path, self._add)

    def _add(self, line: str) -> None:
        what, process, run_id, at = line.split()
        if what == "begun":
            self.begun[run_id].append(Begin(float(at), int(process)))
        elif what == "succeeded":
            self.ended.add(run_id)
        elif what == "renewed":
            self.renewals[int(process)] += 1
        elif what == "stalled":
            self.stalls.append(Stall(int(process), float(run_id), float(at)))

    async def all_of(self, begun: int = 0, ended: int = 0) -> None:
        """Wait until at least `begun` bodies have begun and at least `ended` runs have succeeded."""
        await self.until(lambda: len(self.begun) >= begun and len(self.ended) >= ended)

    async def renewal(self, process: int) -> None:
        """Wait until a process has renewed its leases once more, or all runs have ended."""
        before = self.renewals[process]
        await self.until(lambda: self.renewals[process] > before or len(self.ended) >= RUNS)

    def twice(self) -> dict[str, list[Begin]]:
        """The bodies that were begun more than once, by run, and not because a process stood still before the end."""
        begun = {run_id: sorted(begins) for run_id, begins in self.begun.items()}
        return {
            run_id: begins
            for run_id, begins in begun.items()
            if not all(self._explained(*pair) for pair in pairwise(begins))
        }

    def _explained(self, first: Begin, second: Begin) -> bool:
        """Whether the first process stood still, once it had claimed the run, and before the second one began it."""
        claimed = first.at - LEASE
        return any(
            stall.process == first.process and claimed < stall.until and stall.since < second.at
            for stall in self.stalls
        )


@contextmanager
def workers(count: int, url: str, pipe: Path, until: float) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that watch for the runs."""
    arguments = ["-m", "tests.acceptance.durability.sleepers", url, str(pipe), str(until)]
    started = [
        subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(count)
    ]
    try:
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "watching\n"
        yield started
    finally:
        for process in started:
            process.send_signal(signal.SIGCONT)
            process.communicate()
    assert [process.returncode for process in started] == [0] * count


class Asleep(NamedTuple):
    """A store of parked runs, the pipe into which workers write, what is read from it, and when the runs wake."""

    url: str
    pipe: Path
    seen: Seen
    until: float


async def asleep(folder: Path) -> Asleep:
    """Park the runs; if a busy machine takes too long, park others, which wake later."""
    seconds = WAIT
    while True:
        pipe, until = folder / f"pipe{seconds:g}", time.time() + seconds
        # the disk, which may take as long as a lease, need not be waited for: the power stays on
        url, seen = f"sqlite:///{folder}/runs{seconds:g}.db?synchronous=normal", Seen(pipe)
        worker = Worker(str(pipe), until)
        async with Kernel(store=url, grace=seconds) as kernel:
            for first in range(0, RUNS, 100):
                await asyncio.gather(*(kernel.start(worker.flow, run_id=f"r{first + n}") for n in range(100)))
        if time.time() < until:
            return Asleep(url, pipe, seen, until)
        seen.close()
        seconds *= 2


@pytest.mark.parametrize("count", [2, 4])
async def test_nothing_begins_twice(tmp_path: Path, count: int) -> None:
    """Without a kill or a stop each body is begun once, in whatever process, and every run succeeds."""
    url, pipe, seen, until = await asleep(tmp_path)
    with workers(count, url, pipe, until):
        await seen.all_of(begun=RUNS, ended=RUNS)
    seen.close()

    assert seen.twice() == {}


async def stop(process: subprocess.Popen[str], seconds: float) -> float:
    """Stop a process for a while, as a suspended container is; return the monotonic time at which it stood still."""
    process.send_signal(signal.SIGSTOP)
    await asyncio.to_thread(os.waitid, os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    stopped = time.monotonic()
    await asyncio.sleep(seconds)
    process.send_signal(signal.SIGCONT)
    return stopped


async def test_short_stops_repeat_nothing(tmp_path: Path) -> None:
    """A process that is stopped for 0.3 s again and again renews in time: nothing is begun twice."""
    url, pipe, seen, until = await asleep(tmp_path)
    with workers(2, url, pipe, until) as (first, _):
        for part in range(4):
            await seen.all_of(begun=1 + part * RUNS // 5)
            await stop(first, 0.3)
            await seen.renewal(first.pid)  # stops without a renewal in between are one long stop
        await seen.all_of(begun=RUNS, ended=RUNS)
    seen.close()

    assert seen.twice() == {}


async def test_a_long_stop_repeats_what_was_under_way(tmp_path: Path) -> None:
    """A process that is stopped for longer than its lease loses its runs and begins none of them again."""
    url, pipe, seen, until = await asleep(tmp_path)
    with workers(2, url, pipe, until) as (first, _):
        await seen.all_of(begun=RUNS // 5)
        stopped = await stop(first, 1.5 * LEASE + 1)
        await seen.all_of(begun=RUNS, ended=RUNS)
    seen.close()
    (ours,) = (each for each in seen.stalls if each.process == first.pid and each.since < stopped < each.until)
    seen.stalls.remove(ours)

    for begins in seen.twice().values():
        before, after = sorted(begins)
        assert (before.process, before.at <= stopped) == (first.pid, True)
        assert after.at > stopped + LEASE  # by a new claim, of either process
