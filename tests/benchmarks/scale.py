"""`python -m tests.benchmarks.scale`: what 1 to 1,000 workers on one store cost it, in calls and in virtual time.

All workers are kernels of this process, with a virtual clock, so that a minute of a thousand workers takes seconds. The
store is in memory, or an SQLite file of which all workers share one object. What is counted does not depend on the
machine:

- claims: calls to claim per run, in groups and one by one; empty: those of them that got nothing, per run; refused:
  runs that were claimed and not executed.
- lists: calls for the list of ready runs, per run.
- takeover: virtual seconds from the loss of 10 % of the workers until others execute all of their runs.
- fairness: how many runs of a tenant with a long queue begin before the only run of another one, in a store that has
  queues. `--queued 1000000` makes the queue as long as that.

`--workers 1,10,100,1000` and `--stores memory,sqlite` choose others.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import tempfile
import time
import uuid
from collections.abc import Sequence
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NamedTuple

from cano import Kernel, Lane, RunRecord, StoreBackend, Workflow, current_step
from cano.testing import Faults, FaultyStore, VirtualClock
from cano_durability.keeper import Keeper
from cano_memory import MemoryBackend
from cano_sqlite import SqliteBackend

RUNS_EACH, CONCURRENCY, LEASE, POLL = 5, 5, 30.0, 1.0
"""Runs for each worker, how many it executes at once, and seconds of its lease and between its polls."""
SECONDS = 10
"""Virtual seconds in which the runs are submitted."""
LOST = 0.1
"""The part of the workers that are lost."""


class Shared:
    """A store that stays open when one of the kernels on it closes, and counts what claims got.

    Attributes:
        calls: how often `ready`, `claim` and `claim_ready` were called.
        claimed: number of runs that were claimed.
        empty: number of claims that got none.
    """

    def __init__(self, store: StoreBackend) -> None:
        self._store = store
        self.capabilities = store.capabilities
        self.calls = dict.fromkeys(("ready", "claim", "claim_ready"), 0)
        self.claimed = self.empty = 0

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._store, name)
        return call if name not in self.calls else partial(self._counted, name, call)

    async def _counted(self, name: str, call: Any, *arguments: Any, **named: Any) -> Any:
        found = await call(*arguments, **named)
        self.calls[name] += 1
        if name != "ready":
            got = len(found) if isinstance(found, Sequence) else int(found is not None)
            self.claimed += got
            self.empty += not got
        return found

    async def open(self) -> None:
        """Do nothing: it is open."""

    async def close(self) -> None:
        """Keep it open."""


class World:
    """One store and many workers on it.

    Attributes:
        clock: the time of all of them.
        begun: the ids of the runs that have begun a step, in order.
    """

    def __init__(self, store: StoreBackend, seconds: float) -> None:
        self.clock = VirtualClock(auto=False)
        self.begun: list[str] = []
        self.kernels: list[Kernel] = []
        self.store = Shared(store)
        self._seconds = seconds
        self.flow: Workflow[str] = Workflow("WORK", name="scale")
        self.flow.register("WORK", self._work).add_exit_state("END")

    async def _work(self, store: Any) -> str:
        self.begun.append(current_step().run_id)
        await self.clock.sleep(self._seconds)
        return "END"

    async def kernel(self, codec: Any) -> Kernel:
        """Make a kernel, as if on a machine of its own."""
        store = FaultyStore(self.store, Faults(self.clock))
        kernel = Kernel(store=store, discover=False, plugins=[codec], clock=self.clock, lease=LEASE, poll=POLL, grace=0)
        await kernel.open()
        assert isinstance(kernel.keeper, Keeper)
        kernel.keeper.stored.holder = f"host{len(self.kernels)}:1@:{uuid.uuid4().hex}"
        self.kernels.append(kernel)
        return kernel

    async def workers(self, count: int, codec: Any) -> None:
        """Start workers, which all look for runs at once."""
        kernels = [await self.kernel(codec) for _ in range(count)]
        await asyncio.gather(*(kernel.recover(self.flow, concurrency=CONCURRENCY) for kernel in kernels))

    async def until(self, met: Any, step: float = POLL, most: float = 1000.0) -> float:
        """Let time pass until a condition is met, and return the virtual seconds that it took."""
        began = self.clock.monotonic()
        while not await met():
            if self.clock.monotonic() - began > most:
                raise TimeoutError(f"not within {most:g} virtual seconds")
            await self.clock.advance(step)
        return self.clock.monotonic() - began

    async def close(self) -> None:
        """Close all kernels."""
        for kernel in self.kernels:
            closing = asyncio.ensure_future(kernel.close())
            while not closing.done():
                await self.clock.advance(POLL)
            await closing


class Contention(NamedTuple):
    """What the runs of many workers cost: numbers per run, and virtual seconds until the last one has ended."""

    claims: float
    empty: float
    refused: float
    lists: float
    seconds: float


async def contention(store: StoreBackend, workers: int, codec: Any) -> Contention:
    """Submit runs of one second each, some each second, for workers that look for them at the same moments."""
    world, runs = World(store, 1.0), RUNS_EACH * workers
    submitter = await world.kernel(codec)
    await world.workers(workers, codec)
    for second in range(SECONDS):
        rows: list[dict[str, Any]] = [{}] * (runs * (second + 1) // SECONDS - runs * second // SECONDS)
        await submitter.submit_many(world.flow, rows, run_id=f"run {second}")
        await world.clock.advance(1)

    async def ended() -> bool:
        return len(world.begun) >= runs and not any(kernel.active for kernel in world.kernels)

    seconds = await world.until(ended)
    counts, calls = world.store, world.store.calls
    found = Contention(
        (calls["claim"] + calls["claim_ready"]) / runs, counts.empty / runs, (counts.claimed - len(world.begun)) / runs,
        calls["ready"] / runs, seconds,
    )  # fmt: skip
    assert len(set(world.begun)) == runs
    await world.close()
    return found


async def takeover(store: StoreBackend, workers: int, codec: Any) -> float:
    """Return the virtual seconds until others execute all runs of the workers that are lost at once."""
    world, runs = World(store, 1e6), 2 * workers  # fewer than they could, so that those that stay have room
    submitter = await world.kernel(codec)
    await submitter.submit_many(world.flow, [{}] * runs, run_id="run")
    await world.workers(workers, codec)

    async def begun() -> bool:
        return len(world.begun) >= runs

    await world.until(begun)
    busy = [kernel for kernel in world.kernels[1:] if kernel.active]
    lost = busy[: max(1, round(len(busy) * LOST))]
    gone = {run_id for kernel in lost for run_id in kernel.active}
    if len(lost) == len(busy):  # a worker must stay, to take the runs over
        await world.workers(1, codec)
    for kernel in lost:
        assert isinstance(kernel.backend, FaultyStore)
        kernel.backend.crash()
    world.begun.clear()

    async def again() -> bool:
        return gone <= set(world.begun)

    seconds = await world.until(again)
    assert len(world.begun) == len(gone)  # and nothing that lives was taken
    await world.close()
    return seconds


async def fairness(store: StoreBackend, queued: int, codec: Any) -> int | None:
    """Return how many runs of one tenant begin before the only run of another one; None in a store without queues."""
    if not store.capabilities.queues:
        return None
    world = World(store, 1.0)
    plan = (await world.kernel(codec)).bind(world.flow)
    for number in range(queued + 1):
        lane = Lane(key="one" if number < queued else "other")
        now = world.clock.time() + number * 1e-6
        run = RunRecord(f"{lane.key}-{number}", plan.name, plan.version, plan.fingerprint, plan.start.name)
        await store.create(run._replace(created=now, updated=now, lane=lane))
    await world.workers(1, codec)

    async def begun() -> bool:
        return f"other-{queued}" in world.begun

    await world.until(begun)
    before = world.begun.index(f"other-{queued}")
    await world.close()
    return before


def new_store(kind: str, folder: Path) -> StoreBackend:
    """Return a new store of a kind."""
    if kind == "memory":
        return MemoryBackend(strict=True)
    return SqliteBackend(folder / "runs.db", synchronous="normal")


async def measured(kind: str, work: Any, number: int) -> tuple[Any, float]:
    """Return what a scenario found on a new store, and the seconds of processor time that it took."""
    (point,) = entry_points(group="cano", name="msgspec")
    with tempfile.TemporaryDirectory() as folder:
        store = new_store(kind, Path(folder))
        began = time.process_time()
        await store.open()
        try:
            return await work(store, number, point.load()), time.process_time() - began
        finally:
            await store.close()


async def main(stores: Sequence[str], workers: Sequence[int], queued: int) -> None:
    """Measure and print the tables."""
    logging.getLogger("cano").setLevel(logging.CRITICAL)  # each call of the workers that are lost fails
    print(
        f"lease {LEASE:g} s, poll {POLL:g} s, {RUNS_EACH} runs of 1 s for each worker, {CONCURRENCY} at once in each\n"
    )
    head = f"{'store':8}{'workers':>8}{'claims':>9}{'empty':>8}{'refused':>9}{'lists':>8}{'seconds':>9}{'takeover':>10}"
    print(head + f"{'CPU s':>8}")
    for kind in stores:
        for count in workers:
            found, spent = await measured(kind, contention, count)
            taken, more = await measured(kind, takeover, count)
            row = f"{kind:8}{count:8}{found.claims:9.2f}{found.empty:8.2f}{found.refused:9.2f}{found.lists:8.2f}"
            print(f"{row}{found.seconds:9.0f}{taken:10.0f}{spent + more:8.1f}", flush=True)
    print()
    for kind in stores:
        before, _ = await measured(kind, fairness, queued)
        text = "no queues in this store" if before is None else f"{before} of {queued:,} queued ones begin before it"
        print(f"{kind:8}a run of another tenant: {text}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stores", default="memory,sqlite", help="memory, sqlite or both")
    parser.add_argument("--workers", default="1,10,100,1000", help="numbers of workers")
    parser.add_argument("--queued", type=int, default=1000, help="number of queued runs of one tenant")
    given = parser.parse_args()
    asyncio.run(main(given.stores.split(","), [int(each) for each in given.workers.split(",")], given.queued))
