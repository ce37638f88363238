"""1,000 one-second schedules for 10 seconds: Cano's scheduler beside APScheduler 3, in one run.

Both do the same: each schedule has an async function called once a second, all at the same moments. Lateness is the
time from the nominal moment to the call. Run it by itself with `python tests/benchmarks/scheduler.py`.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from cano import Kernel, KeyValueStore, Workflow
from cano_scheduler import Scheduler

LEAD = 1.0  # seconds from the start to the first nominal moment
PLUGINS = ("memory", "scheduler")  # the installed ones may include loggers, which are measured elsewhere


class Measured(NamedTuple):
    """What one scheduler has cost.

    Attributes:
        name: which one.
        calls: how many calls it made.
        cpu: seconds of CPU time.
        p50, p99: lateness in seconds.
    """

    name: str
    calls: int
    cpu: float
    p50: float
    p99: float

    def __str__(self) -> str:
        return (
            f"{self.name:<14} {self.calls:>6} calls  {self.cpu:7.2f} s CPU"
            f"  lateness p50 {self.p50 * 1000:7.1f} ms  p99 {self.p99 * 1000:7.1f} ms"
        )


class Probe:
    """Takes down how late each call is."""

    def __init__(self, schedules: int, begin: float) -> None:
        self.lateness: list[float] = []
        self._next = [begin] * schedules

    def called(self, number: int) -> None:
        """Schedule `number` is called."""
        self.lateness.append(time.time() - self._next[number])
        self._next[number] += 1.0

    def measured(self, name: str, cpu: float) -> Measured:
        """What came of it."""
        late = sorted(self.lateness)
        return Measured(name, len(late), cpu, late[len(late) // 2], late[int(len(late) * 0.99)])


async def _cano(schedules: int, seconds: float) -> Measured:
    begin = time.time() + LEAD
    probe = Probe(schedules, begin)
    first = datetime.fromtimestamp(begin, UTC)
    async with Kernel(store="memory://", discover=False, plugins=PLUGINS) as kernel:
        scheduler = Scheduler(kernel)
        flow: Workflow[str] = Workflow("call", name="call").add_exit_state("done")

        async def call(store: KeyValueStore) -> str:
            probe.called(store["number"])
            return "done"

        flow.register("call", call)
        for number in range(schedules):
            data = {"number": number}
            scheduler.every(f"s{number}", flow, 1.0, first=first, data=data, misfire="all", overlap="allow")
        async with scheduler:
            return await _watched("cano", probe, begin, seconds)


async def _apscheduler(schedules: int, seconds: float) -> Measured:
    from apscheduler.schedulers.asyncio import AsyncIOScheduler  # type: ignore[import-untyped]  # it has no types

    begin = time.time() + LEAD
    probe = Probe(schedules, begin)
    first = datetime.fromtimestamp(begin, UTC)

    async def call(number: int) -> None:
        probe.called(number)

    scheduler = AsyncIOScheduler(timezone=UTC)
    for number in range(schedules):
        scheduler.add_job(
            call, "interval", (number,), seconds=1, start_date=first, next_run_time=first, id=f"s{number}",
            misfire_grace_time=None, coalesce=False, max_instances=1000,
        )  # fmt: skip
    scheduler.start()
    try:
        return await _watched("APScheduler 3", probe, begin, seconds)
    finally:
        scheduler.shutdown(wait=False)


async def _watched(name: str, probe: Probe, begin: float, seconds: float) -> Measured:
    """Let it run for so many nominal moments, and measure only that time."""
    await asyncio.sleep(begin - time.time() - 0.2)
    gc.collect()
    cpu = time.process_time()
    await asyncio.sleep(begin + seconds - 0.1 - time.time())
    return probe.measured(name, time.process_time() - cpu)


def compare(schedules: int = 1000, seconds: float = 10.0, rounds: int = 1) -> list[Measured]:
    """Both, taking turns; of each the best of all rounds, since other programs only ever make it worse."""
    runs: list[Callable[[int, float], Awaitable[Measured]]] = [_cano, _apscheduler]
    measured: list[list[Measured]] = [[], []]
    for _ in range(rounds):
        for run, found in zip(runs, measured, strict=True):
            with asyncio.Runner() as runner:
                found.append(runner.run(_awaited(run(schedules, seconds))))
    return [_best(found) for found in measured]


def _best(found: list[Measured]) -> Measured:
    cpu, p50, p99 = (min(values) for values in zip(*((one.cpu, one.p50, one.p99) for one in found), strict=True))
    return Measured(found[0].name, found[0].calls, cpu, p50, p99)


async def _awaited(work: Awaitable[Measured]) -> Measured:
    return await work


def idle(schedules: int = 10_000, seconds: float = 5.0) -> float:
    """CPU seconds per second of a scheduler with that many schedules none of which is due."""

    async def run() -> float:
        flow: Workflow[str] = Workflow("call", name="idle").add_exit_state("done")

        async def call(store: Any) -> str:
            return "done"

        flow.register("call", call)
        async with Kernel(store="memory://", discover=False, plugins=PLUGINS) as kernel:
            scheduler = Scheduler(kernel)
            for number in range(schedules):
                scheduler.every(f"s{number}", flow, timedelta(days=1), first=timedelta(hours=number % 24 + 1))
            async with scheduler:
                await asyncio.sleep(0.5)
                cpu = time.process_time()
                await asyncio.sleep(seconds)
                return (time.process_time() - cpu) / seconds

    return asyncio.run(run())


def main(schedules: int = 1000, seconds: float = 10.0, rounds: int = 1) -> None:
    """Print both, and the ratios."""
    ours, theirs = compare(schedules, seconds, rounds)
    print(ours, theirs, sep="\n")
    print(
        f"cano / APScheduler: CPU {ours.cpu / theirs.cpu:.2f}, p50 {ours.p50 / theirs.p50:.2f}, "
        f"p99 {ours.p99 / theirs.p99:.2f}"
    )
    print(f"10,000 schedules, idle: {idle() * 100:.2f} % of one CPU")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
