"""`python -m tests.benchmarks.searching`: finding, counting and reading runs among many, by search attributes.

All runs have ended, one in a hundred has failed, and each has four attributes: one of 1,000 tenants, one of two
regions, an amount, and a number of its own. Each cell is the 95th percentile of the rounds in milliseconds, as a caller
waits for it, on one machine with real servers. The goal is 50 ms among 1,000,000 runs.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

import psycopg
from cano import Kernel, RunRecord, RunStatus
from cano.search_attributes import encoded
from cano_postgres import PostgresBackend
from cano_sqlite import SqliteBackend

from tests.servers.postgres import start_postgres

NOW = 1_800_000_000.0
AT_ONCE = 500
TENANTS = 1000
Work = Callable[[], Awaitable[object]]


def record(number: int, size: int) -> RunRecord:
    """A run that has ended: the last one now, the others a second apart before it."""
    status = RunStatus.SUCCEEDED if number % 100 else RunStatus.FAILED
    at = NOW - (size - number)
    attributes = {
        "tenant": encoded(f"tenant {number * 7919 % TENANTS}"), "region": encoded(("north", "south")[number % 2]),
        "amount": encoded(number % 10_000), "number": encoded(number),
    }  # fmt: skip
    return RunRecord(
        f"run {number:07}", f"flow {number % 10}", "1", "f", "END", seq=3, status=status, data={"key": b"\x01"},
        created=at, updated=at, attributes=attributes,
    )  # fmt: skip


def works(kernel: Kernel, size: int) -> dict[str, Work]:
    """What is measured, by name."""
    day = NOW - 86_400
    some = random.Random(1)

    def number() -> int:
        return some.randrange(size)

    def tenant() -> str:
        return f"tenant = 'tenant {some.randrange(TENANTS)}'"

    return {
        "get(run_id)": lambda: kernel.get(f"run {number():07}"),
        "the run with a number": lambda: _listed(kernel, f"number = {number()}"),
        "a page of a tenant": lambda: _listed(kernel, tenant()),
        "a page of a tenant's failures": lambda: _listed(kernel, f"{tenant()} and status = failed"),
        "a page of a tenant's failures since a day": lambda: _listed(
            kernel, f"{tenant()} and status = failed", updated_after=day
        ),
        "a page of a region": lambda: _listed(kernel, "region = north"),
        "a page of a region's failures": lambda: _listed(kernel, "region = north and status = failed"),
        "a page of a range of amounts": lambda: _listed(kernel, "amount >= 9990"),
        "a page of a wide range of amounts": lambda: _listed(kernel, "amount < 5000"),
        "a count of a tenant": lambda: kernel.runs(where=tenant()).count(),
        "a count of a tenant's failures": lambda: kernel.runs(where=f"{tenant()} and status = failed").count(),
        "a count of all failures": lambda: kernel.runs(status="failed").count(),
        "a count of a region": lambda: kernel.runs(where="region = north").count(),
        "a count of a workflow": lambda: kernel.runs(workflow="flow 3").count(),
        "a count of all": lambda: kernel.runs().count(),
    }


async def _listed(kernel: Kernel, where: str, updated_after: float | None = None) -> list[RunRecord]:
    return await kernel.runs(where=where, updated_after=updated_after, limit=50)


async def measured(store: SqliteBackend | PostgresBackend, size: int, rounds: int, url: str | None) -> dict[str, float]:
    """The 95th percentiles in milliseconds in a store of that size, and the microseconds to create a run."""
    async with Kernel(store=store, plugins=["msgspec", "durability"], discover=False) as kernel:
        begin = time.perf_counter()
        for first in range(0, size, AT_ONCE):
            await asyncio.gather(
                *[store.create(record(each, size)) for each in range(first, min(first + AT_ONCE, size))]
            )
        found = {"create with four attributes, each": (time.perf_counter() - begin) / size * 1e3}
        if url is not None:  # as autovacuum does, sooner or later
            async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
                await connection.execute("VACUUM ANALYZE")
        for name, work in works(kernel, size).items():
            await work()
            times = []
            for _ in range(rounds):
                begin = time.perf_counter()
                await work()
                times.append(time.perf_counter() - begin)
            found[name] = sorted(times)[int(len(times) * 0.95)] * 1e3
        return found


def main() -> None:
    """Measure, and print a table for each store."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.searching")
    parser.add_argument("--sizes", default="1000,10000,100000", help="the sizes of the stores")
    parser.add_argument("--stores", default="sqlite,postgres", help="the stores")
    parser.add_argument("--rounds", type=int, default=40, help="how often each is measured")
    given = parser.parse_args()
    sizes = [int(size) for size in given.sizes.split(",")]
    for kind in given.stores.split(","):
        columns = []
        for size in sizes:
            with ExitStack() as stack:
                store: SqliteBackend | PostgresBackend
                url = None
                if kind == "sqlite":
                    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                    store = SqliteBackend(folder / "runs.db", synchronous="normal")
                else:
                    server = start_postgres("-c", "fsync=off")
                    stack.callback(server.throw_away)
                    url = server.new_url()
                    store = PostgresBackend(url)
                columns.append(asyncio.run(measured(store, size, given.rounds, url)))
        print(f"\n{kind:<44}" + "".join(f"{size:>12,}" for size in sizes))
        for name in columns[0]:
            print(f"{name:<44}" + "".join(f"{column[name]:>9.2f} ms" for column in columns), flush=True)


if __name__ == "__main__":
    main()
