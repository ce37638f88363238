"""How fast a store commits: asked directly, and through a kernel that drives a workflow."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from cano import (
    Commit,
    Kernel,
    RunFilter,
    RunRecord,
    RunStatus,
    StoreBackend,
    StoreError,
    TaskConfig,
    Workflow,
    is_held,
)

WORKFLOW = "cano.bench"
"""The workflow of all runs that are made here: what a killed process has left is known by it."""
SIZE = 200
"""Bytes of the value that each commit changes."""
KEY = "value"
HELD = 3600.0
"""Seconds for which the runs are held: no worker is to look at them."""


class Speed(NamedTuple):
    """How fast commits were.

    Attributes:
        through: "store" or "kernel".
        runs: how many made commits at once.
        commits: how many there were.
        seconds: how long that took.
        p50, p99: seconds that half of them, and 99 of 100, took at most.
    """

    through: str
    runs: int
    commits: int
    seconds: float
    p50: float
    p99: float

    @property
    def rate(self) -> float:
        """Commits per second."""
        return self.commits / self.seconds if self.seconds else 0.0

    def as_json(self) -> dict[str, Any]:
        """The same for programs; latencies in milliseconds."""
        return {
            "through": self.through, "runs": self.runs, "commits": self.commits, "seconds": self.seconds,
            "commits_per_second": self.rate, "p50_ms": self.p50 * 1000, "p99_ms": self.p99 * 1000,
        }  # fmt: skip


class Benchmark:
    """Makes runs of its own in a store, and forgets them in the end: use it as `async with`.

    Args:
        kernel: open, on the store.
        backend: the store.
        seconds: how long each measurement takes.
        warn: told of what cannot be deleted.
    """

    def __init__(self, kernel: Kernel, backend: StoreBackend, seconds: float, warn: Callable[[str], None]) -> None:
        self._kernel = kernel
        self._backend = backend
        self._seconds = seconds
        self._warn = warn
        self._prefix = f"cano-bench-{uuid.uuid4().hex[:12]}"
        self._made: list[str] = []

    async def __aenter__(self) -> Benchmark:
        now = self._kernel.clock.time()
        left = [each for each in await self._backend.runs(RunFilter(workflow=WORKFLOW)) if not is_held(each, now)]
        await self._forget([each.run_id for each in left])
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._forget(self._made)

    async def _forget(self, run_ids: list[str]) -> None:
        try:
            for run_id in run_ids:
                await self._backend.delete(run_id)
        except StoreError as error:
            self._warn(f"the runs {self._prefix}/... could not be deleted: {error}")

    def _ids(self, through: str, runs: int) -> list[str]:
        ids = [f"{self._prefix}/{through}-{runs}-{number}" for number in range(runs)]
        self._made += ids
        return ids

    async def store(self, runs: int) -> Speed:
        """Commits through the store's own methods, by so many runs at once."""

        async def commits(run_id: str, note: Callable[[float], bool]) -> None:
            now = self._kernel.clock.time()
            run = RunRecord(
                run_id=run_id, workflow=WORKFLOW, version="1", fingerprint="", state="step", created=now, updated=now,
                holder=self._prefix, expires=now + HELD, token=1,
            )  # fmt: skip
            await self._backend.create(run)
            seq, going = 0, True
            while going:
                begun = time.perf_counter()
                await self._backend.commit(
                    Commit(
                        run_id=run_id, token=1, expected_seq=seq, seq=seq + 1, state="step", status=RunStatus.RUNNING,
                        changed={KEY: os.urandom(SIZE)}, at=now,
                    )
                )  # fmt: skip
                going = note(time.perf_counter() - begun)
                seq += 1

        return await self._measured("store", runs, commits)

    async def kernel(self, runs: int) -> Speed:
        """Steps of a workflow, each with its commit, by so many runs at once."""

        async def steps(run_id: str, note: Callable[[float], bool]) -> None:
            flow: Workflow[str] = Workflow("step", name=WORKFLOW, default_config=TaskConfig.minimal())
            before = time.perf_counter()
            first = True

            async def step(store: Any) -> str:
                nonlocal before, first
                now = time.perf_counter()
                going = first or note(now - before)
                before, first = now, False
                store[KEY] = os.urandom(SIZE)
                return "step" if going else "done"

            flow.register("step", step).add_exit_state("done")
            handle = await self._kernel.start(flow, run_id=run_id)
            try:
                await handle.result()
            except asyncio.CancelledError:
                await handle.cancel()
                raise

        return await self._measured("kernel", runs, steps)

    async def _measured(
        self, through: str, runs: int, work: Callable[[str, Callable[[float], bool]], Coroutine[Any, Any, None]]
    ) -> Speed:
        """Let `work` go on in so many runs; it notes how long each commit took, and is told whether to go on."""
        taken: list[float] = []
        begun = time.perf_counter()
        end = begun + self._seconds

        def note(seconds: float) -> bool:
            taken.append(seconds)
            return time.perf_counter() < end

        async with asyncio.TaskGroup() as group:
            for run_id in self._ids(through, runs):
                group.create_task(work(run_id, note))
        seconds = time.perf_counter() - begun
        taken.sort()
        return Speed(through, runs, len(taken), seconds, _share(taken, 0.5), _share(taken, 0.99))


def _share(ordered: list[float], share: float) -> float:
    """What that share of the numbers is not above."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0
