"""Compares commits with raw psycopg commits on the same server, in interleaved rounds.

    python tests/plugins/postgres/bench_postgres.py [--url URL] [--rounds N] [--no-fsync]

Not a test: it asserts nothing. Without a URL it starts a server and removes it afterwards. The disk's speed may change
several times a minute, so each round measures all ways in succession; the result is the median of the ratios. With
`--no-fsync` the server does not wait for the disk: the difference is what a commit costs this process and the server.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from pathlib import Path

import psycopg
from cano_postgres import PostgresBackend

sys.path.insert(0, str(Path(__file__).parents[3]))
from tests.benchmarks.commits import RUNS, VALUE, Cano
from tests.servers.postgres import start_postgres


class Raw:
    """Commits one `UPDATE` of a row after the other."""

    def __init__(self, connection: psycopg.AsyncConnection[tuple[object, ...]]) -> None:
        self.connection = connection

    async def begin(self) -> None:
        """Create the row."""
        await self.connection.execute("DROP TABLE IF EXISTS raw_steps")
        await self.connection.execute("CREATE TABLE raw_steps (id int PRIMARY KEY, seq int, value bytea)")
        await self.connection.execute("INSERT INTO raw_steps VALUES (1, 0, '')")

    async def commits(self, count: int) -> float:
        """Return the seconds for each of `count` commits."""
        execute = self.connection.execute
        begin = time.perf_counter()
        for _ in range(count):
            await execute("UPDATE raw_steps SET seq = seq + 1, value = %s WHERE id = %s", (VALUE, 1))
        return (time.perf_counter() - begin) / count


async def measure(url: str, rounds: int) -> None:
    """Print a line for each round, and the medians."""
    connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
    raw = Raw(connection)
    await raw.begin()
    store = PostgresBackend(url)
    await store.open()
    cano = Cano(store)
    for run_id in ("one", *(f"run {number}" for number in range(RUNS))):
        await cano.begin(run_id)
    await cano.many(10)
    await cano.one(50)
    await raw.commits(50)

    print(f"{'raw':>8} {'one run':>8} {'ratio':>6} {'100 runs':>9} {'ratio':>6}   µs for each commit")
    found: list[tuple[float, float, float]] = []
    for _ in range(rounds):
        before = await raw.commits(100)
        one, many = await cano.one(100), await cano.many(30)
        by_hand = (before + await raw.commits(100)) / 2
        found.append((by_hand, one, many))
        print(f"{by_hand * 1e6:8.0f} {one * 1e6:8.0f} {by_hand / one:6.2f} {many * 1e6:9.1f} {by_hand / many:6.1f}")
    rates = [statistics.median(1 / each for each in column) for column in zip(*found, strict=True)]
    print("commits in a second: {:.0f} raw, {:.0f} of one run, {:.0f} of {} runs".format(*rates, RUNS))
    ones, manys = ([by_hand / each[way] for by_hand, *each in found] for way in (0, 1))
    print(f"one run: {statistics.median(ones):.2f} times as many as raw commits (goal: at least 0.8)")
    print(f"{RUNS} runs: {statistics.median(manys):.1f} times as many (goal: at least 4)")
    await store.close()
    await connection.close()


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--url", help="a database in which tables may be made")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--no-fsync", action="store_true", help="let the server that is started wait for no disk")
    options = parser.parse_args()
    if options.url:
        asyncio.run(measure(options.url, options.rounds))
        return
    server = start_postgres(*(["-c", "fsync=off"] if options.no_fsync else []))
    try:
        asyncio.run(measure(server.new_url(), options.rounds))
    finally:
        server.throw_away()


if __name__ == "__main__":
    main()
