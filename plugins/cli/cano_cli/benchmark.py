"""Measuring the commits of a store, directly and through a kernel that executes a workflow."""

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
"""The workflow of all benchmark runs. It identifies those of a killed process."""
SIZE = 200
"""The size in bytes of the value that each commit changes."""
KEY = "value"
LEASE = 3600.0
"""Seconds for which the benchmark holds its runs, so that no worker claims them."""


class Speed(NamedTuple):
    """The result of one measurement.

    Attributes:
        through: "store" or "kernel".
        runs: the number of concurrent runs.
        commits: the number of commits.
        seconds: the duration of the measurement.
        p50, p99: the 50th and 99th percentile of the commit latency, in seconds.
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
        """Return the result as JSON, with latencies in milliseconds."""
        return {
            "through": self.through, "runs": self.runs, "commits": self.commits, "seconds": self.seconds,
            "commits_per_second": self.rate, "p50_ms": self.p50 * 1000, "p99_ms": self.p99 * 1000,
        }  # fmt: skip


class Benchmark:
    """A benchmark of a store. Use it with `async with`, which deletes its runs at the end.

    Args:
        kernel: an open kernel on the store.
        backend: the store.
        seconds: the duration of each measurement.
        warn: called with a message if runs cannot be deleted.
    """

    def __init__(self, kernel: Kernel, backend: StoreBackend, seconds: float, warn: Callable[[str], None]) -> None:
        self._kernel = kernel
        self._backend = backend
        self._seconds = seconds
        self._warn = warn
        self._prefix = f"cano-bench-{uuid.uuid4().hex[:12]}"
        self._created: list[str] = []

    async def __aenter__(self) -> Benchmark:
        now = self._kernel.clock.time()
        stale = [each for each in await self._backend.runs(RunFilter(workflow=WORKFLOW)) if not is_held(each, now)]
        await self._delete([each.run_id for each in stale])
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._delete(self._created)

    async def _delete(self, run_ids: list[str]) -> None:
        try:
            for run_id in run_ids:
                await self._backend.delete(run_id)
        except StoreError as error:
            self._warn(f"the runs {self._prefix}/... could not be deleted: {error}")

    def _ids(self, through: str, runs: int) -> list[str]:
        ids = [f"{self._prefix}/{through}-{runs}-{number}" for number in range(runs)]
        self._created += ids
        return ids

    async def store(self, runs: int) -> Speed:
        """Measure commits through the store's own methods, with `runs` concurrent runs."""

        async def commits(run_id: str, record: Callable[[float], bool]) -> None:
            now = self._kernel.clock.time()
            run = RunRecord(
                run_id=run_id, workflow=WORKFLOW, version="1", fingerprint="", state="step", created=now, updated=now,
                holder=self._prefix, expires=now + LEASE, token=1,
            )  # fmt: skip
            await self._backend.create(run)
            seq, more = 0, True
            while more:
                started = time.perf_counter()
                await self._backend.commit(
                    Commit(
                        run_id=run_id, token=1, expected_seq=seq, seq=seq + 1, state="step", status=RunStatus.RUNNING,
                        changed={KEY: os.urandom(SIZE)}, at=now,
                    )
                )  # fmt: skip
                more = record(time.perf_counter() - started)
                seq += 1

        return await self._measured("store", runs, commits)

    async def kernel(self, runs: int) -> Speed:
        """Measure steps of a workflow, each with its commit, with `runs` concurrent runs."""

        async def steps(run_id: str, record: Callable[[float], bool]) -> None:
            flow: Workflow[str] = Workflow("step", name=WORKFLOW, default_config=TaskConfig.minimal())
            before = time.perf_counter()
            first = True

            async def step(store: Any) -> str:
                nonlocal before, first
                now = time.perf_counter()
                more = first or record(now - before)
                before, first = now, False
                store[KEY] = os.urandom(SIZE)
                return "step" if more else "done"

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
        """Call `work` for each of `runs` runs. It records each latency, until recording returns False."""
        latencies: list[float] = []
        started = time.perf_counter()
        end = started + self._seconds

        def record(seconds: float) -> bool:
            latencies.append(seconds)
            return time.perf_counter() < end

        async with asyncio.TaskGroup() as group:
            for run_id in self._ids(through, runs):
                group.create_task(work(run_id, record))
        seconds = time.perf_counter() - started
        latencies.sort()
        return Speed(through, runs, len(latencies), seconds, _percentile(latencies, 0.5), _percentile(latencies, 0.99))


def _percentile(ordered: list[float], fraction: float) -> float:
    """Return the value that `fraction` of the ordered numbers do not exceed; 0.0 if there are none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * fraction))] if ordered else 0.0
