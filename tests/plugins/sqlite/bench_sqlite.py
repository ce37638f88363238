"""Compares commits with raw sqlite3 commits in the same folder, in interleaved rounds.

    python tests/plugins/sqlite/bench_sqlite.py [--folder DIR] [--rounds N]

Not a test: it asserts nothing. 100 runs keep two CPUs busy, raw commits one. A slow CPU therefore slows only the runs,
so the speed of each CPU is printed first and last. The disk's speed may change several times a minute, so each round
measures all ways in succession; the result is the median of the ratios. In memory, such as /dev/shm, the difference is
the cost of a commit without the disk.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path

from cano_sqlite import SqliteBackend

sys.path.insert(0, str(Path(__file__).parents[3]))
from tests.benchmarks.commits import RUNS, VALUE, Cano
from tests.benchmarks.cpus import speeds


class Raw:
    """Commits one `INSERT` after the other, in the main thread."""

    def __init__(self, folder: Path) -> None:
        self.connection = sqlite3.connect(folder / "raw.db", isolation_level=None)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = FULL")
        self.connection.execute("CREATE TABLE steps (id INTEGER PRIMARY KEY, value BLOB)")

    def commits(self, count: int) -> float:
        """Return the seconds for each of `count` commits."""
        execute = self.connection.execute
        begin = time.perf_counter()
        for _ in range(count):
            execute("BEGIN IMMEDIATE")
            execute("INSERT INTO steps (value) VALUES (?)", (VALUE,))
            execute("COMMIT")
        return (time.perf_counter() - begin) / count


async def measure(folder: Path, rounds: int) -> None:
    """Print a line for each round, and the medians."""
    raw = Raw(folder)
    # a file for each, since a checkpoint takes as long as what was written to the file
    lone, crowd = Cano(SqliteBackend(folder / "one.db")), Cano(SqliteBackend(folder / "many.db"))
    for cano in (lone, crowd):
        await cano.store.open()
    await lone.begin("one")
    for number in range(RUNS):
        await crowd.begin(f"run {number}")
    # a write-ahead log that grows is slower than one that is overwritten
    await crowd.many(60)
    await lone.one(1200)
    raw.commits(1200)

    print(speeds())
    print(f"{'raw':>8} {'one run':>8} {'ratio':>6} {'100 runs':>9} {'ratio':>6}   µs for each commit")
    ones, manys = [], []
    for _ in range(rounds):
        before = raw.commits(100)
        one, many = await lone.one(100), await crowd.many(30)
        by_hand = (before + raw.commits(100)) / 2
        ones.append(one / by_hand)
        manys.append(by_hand / many)
        print(f"{by_hand * 1e6:8.0f} {one * 1e6:8.0f} {ones[-1]:6.2f} {many * 1e6:9.1f} {manys[-1]:6.1f}")
    print(f"one run: {statistics.median(ones):.2f} times as long as a raw commit (goal: at most 1.3)")
    print(f"{RUNS} runs: {statistics.median(manys):.1f} times as many commits in a second (goal: at least 10)")
    print(speeds())
    for cano in (lone, crowd):
        await cano.store.close()
    raw.connection.close()


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
