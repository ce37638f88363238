"""Commits to a store of runs, as a kernel makes them: what the stores' benchmarks set beside those by hand."""

from __future__ import annotations

import asyncio
import os
import time

from cano import Commit, RunRecord, RunStatus, StoreBackend

VALUE = os.urandom(100)
RUNS = 100


class Cano:
    """Commits of runs that go on, each changing one key."""

    def __init__(self, store: StoreBackend) -> None:
        self.store = store
        self.seqs: dict[str, int] = {}

    async def begin(self, run_id: str) -> None:
        """Make a run, anew where there is one."""
        await self.store.delete(run_id)
        await self.store.create(
            RunRecord(run_id=run_id, workflow="bench", version="1", fingerprint="f" * 64, state="A", holder="me",
                      expires=time.time() + 3600, token=1, created=time.time())
        )  # fmt: skip
        self.seqs[run_id] = 0

    async def drive(self, run_id: str, count: int) -> None:
        """Commit step by step."""
        commit, made = self.store.commit, self.seqs[run_id]
        running = RunStatus.RUNNING
        for seq in range(made + 1, made + count + 1):
            changed, at = {"value": VALUE}, 1.7e9 + seq
            await commit(Commit(run_id, 1, seq - 1, seq, "B", running, changed, at=at))
        self.seqs[run_id] = made + count

    async def one(self, count: int) -> float:
        """Seconds for each of `count` commits of one run."""
        begin = time.perf_counter()
        await self.drive("one", count)
        return (time.perf_counter() - begin) / count

    async def many(self, count: int) -> float:
        """Seconds for each commit of many runs at once, `count` of each."""
        begin = time.perf_counter()
        await asyncio.gather(*(self.drive(f"run {number}", count) for number in range(RUNS)))
        return (time.perf_counter() - begin) / count / RUNS
