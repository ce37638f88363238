"""Compares commits with raw LMDB commits in the same folder, in interleaved rounds.

    python examples/third_party_store/bench_lmdb.py [--folder DIR] [--rounds N]

Not a test: it asserts nothing. The disk's speed may change several times a minute, so each round measures all ways in
succession; the result is the median of the ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path

import lmdb
from cano import Commit, RunRecord, RunStatus
from lmdb_runs.plugin import PROMISES
from lmdb_runs.store import LmdbStore

VALUE = os.urandom(100)
RUNS = 100


class Raw:
    """Commits one `put` after the other, in the main thread. Each is synced, which is LMDB's default."""

    def __init__(self, folder: Path) -> None:
        self.env = lmdb.open(str(folder / "raw.mdb"), subdir=False, map_size=2**28)
        self.made = 0

    def commits(self, count: int) -> float:
        """Return the seconds for each of `count` commits."""
        begin = time.perf_counter()
        for number in range(self.made, self.made + count):
            with self.env.begin(write=True) as txn:
                txn.put(number.to_bytes(8), VALUE)
        self.made += count
        return (time.perf_counter() - begin) / count


class Cano:
    """Commits plain steps of runs, each changing one key."""

    def __init__(self, store: LmdbStore) -> None:
        self.store = store
        self.seqs: dict[str, int] = {}

    async def begin(self, run_id: str) -> None:
        """Create a run."""
        await self.store.create(
            RunRecord(run_id=run_id, workflow="bench", version="1", fingerprint="f" * 64, state="A", holder="me",
                      expires=time.time() + 3600, token=1, created=time.time())
        )  # fmt: skip
        self.seqs[run_id] = 0

    async def drive(self, run_id: str, count: int) -> None:
        """Commit steps one after the other."""
        commit, made = self.store.commit, self.seqs[run_id]
        for seq in range(made + 1, made + count + 1):
            await commit(
                Commit(run_id=run_id, token=1, expected_seq=seq - 1, seq=seq, state="B", status=RunStatus.RUNNING,
                       changed={"value": VALUE}, at=1.7e9 + seq)
            )  # fmt: skip
        self.seqs[run_id] = made + count

    async def one(self, count: int) -> float:
        """Return the seconds for each of `count` commits of one run."""
        begin = time.perf_counter()
        await self.drive("one", count)
        return (time.perf_counter() - begin) / count

    async def many(self, count: int) -> float:
        """Return the seconds for each commit of many runs at once, `count` of each."""
        begin = time.perf_counter()
        await asyncio.gather(*(self.drive(f"run {number}", count) for number in range(RUNS)))
        return (time.perf_counter() - begin) / count / RUNS


async def measure(folder: Path, rounds: int) -> None:
    """Print a line for each round, and the medians."""
    raw, store = Raw(folder), LmdbStore(str(folder / "runs.mdb"), PROMISES)
    await store.open()
    cano = Cano(store)
    for run_id in ("one", *(f"run {number}" for number in range(RUNS))):
        await cano.begin(run_id)
    await cano.many(30)
    await cano.one(100)
    raw.commits(600)

    print(f"{'raw':>8} {'one run':>8} {'ratio':>6} {'100 runs':>9} {'ratio':>6}   µs for each commit")
    ones, manys = [], []
    for _ in range(rounds):
        before = raw.commits(100)
        one, many = await cano.one(100), await cano.many(30)
        by_hand = (before + raw.commits(100)) / 2
        ones.append(by_hand / one)
        manys.append(by_hand / many)
        print(f"{by_hand * 1e6:8.0f} {one * 1e6:8.0f} {ones[-1]:6.2f} {many * 1e6:9.1f} {manys[-1]:6.1f}")
    print(f"one run: {statistics.median(ones):.2f} times as many commits in a second as raw ones (goal: at least 0.8)")
    print(f"{RUNS} runs: {statistics.median(manys):.1f} times as many commits in a second (goal: at least 4)")
    await store.close()
    raw.env.close()


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, help="where to write; a folder of the system's for such things")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        asyncio.run(measure(Path(folder), options.rounds))


if __name__ == "__main__":
    main()
