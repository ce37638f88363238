"""`python -m tests.benchmarks.growth`: what must not grow with the runs of a store, for several sizes in one table.

A store of size N has N parked runs that wait, N runs in the queue of one workflow, N finished runs of ten workflows, N
signals that no run awaits, and a run of N / 10 steps. Each cell is the shortest of some rounds in milliseconds, as a
caller waits for it, on one machine with real servers. The last lines are of a run that appends 11 characters in each
of N steps: the CPU time of this process, and what a step adds to the file, to PostgreSQL's write-ahead log, or to
Redis's memory.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sqlite3
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from cano import (
    Commit,
    Kernel,
    KeyValueStore,
    Retention,
    RunFilter,
    RunRecord,
    RunStatus,
    Signal,
    StoreBackend,
    Wait,
    Workflow,
    current_step,
    read_history,
    read_ready,
)
from cano.testing.contract_base import installed_backend
from cano_memory import MemoryBackend
from cano_postgres import PostgresBackend
from cano_sqlite import SqliteBackend

from tests.servers.postgres import start_postgres
from tests.servers.redis import start_redis

NOW = 1_700_000_000.0
AT_ONCE = 500
Work = Callable[[], Awaitable[object]]
Written = Callable[[], int]
_BYTES = "append() in each step, bytes a step"


def parked(number: int) -> RunRecord:
    """A run that waits for a signal, and for a time that does not come."""
    wait = Wait(then="B", signal="go", until=NOW + 1e9)
    return _run(f"parked {number:07}", "waiting", RunStatus.PARKED, number, wait)


def finished(number: int) -> RunRecord:
    """A run that has ended, of one of ten workflows; every thousandth has failed."""
    status = RunStatus.SUCCEEDED if number % 1000 else RunStatus.FAILED
    return _run(f"finished {number:07}", f"flow {number % 10}", status, number)


def queued(number: int) -> RunRecord:
    """A run that no process has begun."""
    return _run(f"queued {number:07}", "queue", RunStatus.RUNNING, number)


def _run(run_id: str, workflow: str, status: RunStatus, number: int, wait: Wait | None = None) -> RunRecord:
    return RunRecord(
        run_id=run_id, workflow=workflow, version="1", fingerprint="start A; state A does A -> B", state="A",
        status=status, data={"key": b"value"}, wait=wait, parent="parent" if number < 3 else None,
        created=NOW + number / 1000, updated=NOW + number / 1000,
    )  # fmt: skip


async def fill(store: StoreBackend, size: int) -> None:
    """Store the runs and signals of a store of that size."""
    for first in range(0, size, AT_ONCE):
        numbers = range(first, min(first + AT_ONCE, size))
        await asyncio.gather(*[store.create(run(number)) for number in numbers for run in (parked, queued, finished)])
        signal = Signal("1", "no run waits for this")
        await asyncio.gather(*[store.put_signal(f"parked {number:07}", signal) for number in numbers])


def works(store: Any) -> Mapping[str, Work]:
    """What is measured, by name."""
    return {
        "ready() of a workflow": lambda: read_ready(store, NOW, {"waiting"}),
        "claim_ready() of a workflow": lambda: store.claim_ready([("waiting", "1", "f")], 9, "me", NOW, NOW + 30),
        "runs(limit=50)": lambda: store.runs(RunFilter(limit=50)),
        "runs(limit=50, after=...)": lambda: store.runs(RunFilter(limit=50, after=(NOW + 0.2, ""))),
        "runs(status='running', limit=50)": lambda: store.runs(RunFilter(status=RunStatus.RUNNING, limit=50)),
        "runs(status='failed', limit=50)": lambda: store.runs(RunFilter(status=RunStatus.FAILED, limit=50)),
        "runs(parent=...)": lambda: store.runs(RunFilter(parent="parent")),
        "runs(workflow=..., limit=50)": lambda: store.runs(RunFilter(workflow="flow 3", limit=50)),
        "runs(workflow=...), which has none": lambda: store.runs(RunFilter(workflow="cano.schedule")),
    }


async def measured(store: StoreBackend, size: int, rounds: int, written: Written) -> dict[str, float]:
    """The median milliseconds of each work in a store of that size."""
    await store.open()
    try:
        await fill(store, size)
        found: dict[str, float] = {}
        for name, work in works(store).items():
            await work()
            times = []
            for _ in range(rounds):
                begin = time.perf_counter()
                await work()
                times.append(time.perf_counter() - begin)
            found[name] = min(times) * 1e3
        found |= await _with_kernel(store, size, written)
        return found
    finally:
        await store.close()


async def _appended(kernel: Kernel, size: int, written: Written) -> dict[str, float]:
    """The price of a step of a run that appends an item in each of `size` steps: CPU milliseconds, and bytes."""
    flow = Workflow("A", name="append").add_exit_state("B")

    @flow.on("A")
    async def append(store: KeyValueStore) -> str:
        store.append("log", "hello world")
        return "A" if current_step().seq < size else "B"

    before, begin = written(), time.process_time()
    await kernel.run(flow, run_id="append")
    taken = time.process_time() - begin
    return {"append() in each step, CPU a step": taken / size * 1e3, _BYTES: (written() - before) / size}


async def _with_kernel(store: StoreBackend, size: int, written: Written) -> dict[str, float]:
    """A long run's figures, those of appending, and milliseconds of a prune of no run, and of up to 5,000, per run."""
    async with Kernel(store=store, plugins=["msgspec", "durability"], discover=False) as kernel:
        history = await _history(kernel, size) | await _appended(kernel, size, written)
        begin = time.perf_counter()
        await kernel.prune(Retention(keep_last=max(size // 10, 1), max_age=1e9))
        idle = time.perf_counter() - begin
        keep = max(size // 10 - 500, 0)
        begin = time.perf_counter()
        gone = len(await kernel.prune(Retention(keep_last=keep)))
        return history | {
            "prune() with nothing to do": idle * 1e3,
            "prune(), per deleted run": (time.perf_counter() - begin) / max(gone, 1) * 1e3,
        }


async def _history(kernel: Kernel, size: int) -> dict[str, float]:
    """The milliseconds of a fork near the beginning of a long run, and of a page of its history."""
    assert kernel.backend is not None
    long = finished(1)._replace(run_id="long", status=RunStatus.RUNNING, holder="me", expires=NOW, token=1)
    await kernel.backend.create(long)
    for seq in range(1, size // 10 + 4):
        commit = Commit("long", 1, seq - 1, seq, "A", RunStatus.RUNNING, {"key": b"%d" % seq}, at=NOW)
        await kernel.backend.commit(commit)
    times: dict[str, list[float]] = {}
    for number in range(9):
        for name, work in (
            ("fork(3) of a long run", partial(kernel.fork, "long", 3, f"fork {number}")),
            ("history(limit=50) in its middle", partial(read_history, kernel.backend, "long", size // 20, 50)),
        ):
            begin = time.perf_counter()
            await work()
            times.setdefault(name, []).append(time.perf_counter() - begin)
    return {name: min(taken) * 1e3 for name, taken in times.items()}


def show(store: str, sizes: list[int], columns: list[dict[str, float]]) -> None:
    """Print the table of one store."""
    print(f"\n{store:<36}" + "".join(f"{size:>12,}" for size in sizes))
    for name in columns[0]:
        unit = "B " if name == _BYTES else "ms"
        print(f"{name:<36}" + "".join(f"{column[name]:>9.2f} {unit}" for column in columns), flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.growth", description=__doc__)
    parser.add_argument("--sizes", default="1000,10000,100000", help="the sizes of the stores")
    parser.add_argument("--stores", default="sqlite,postgres,redis,memory", help="the stores")
    parser.add_argument("--rounds", type=int, default=9, help="how often each is measured; the best counts")
    given = parser.parse_args()
    sizes, stores = [int(size) for size in given.sizes.split(",")], given.stores.split(",")

    def table(name: str, make: Callable[[int], tuple[StoreBackend, Written]]) -> None:
        if name in stores:
            made = [(size, *make(size)) for size in sizes]
            columns = [asyncio.run(measured(store, size, given.rounds, written)) for size, store, written in made]
            show(name, sizes, columns)

    with tempfile.TemporaryDirectory() as folder:

        def file(size: int) -> tuple[StoreBackend, Written]:
            path = Path(folder) / f"{size}.db"

            def pages() -> int:
                with closing(sqlite3.connect(path)) as connection:
                    return int(connection.execute("PRAGMA page_count").fetchone()[0]) * 4096

            return SqliteBackend(path, synchronous="normal"), pages

        table("sqlite", file)
    if "postgres" in stores:
        postgres = start_postgres("-c", "fsync=off")
        try:
            log = "SELECT (pg_current_wal_lsn() - '0/0')::bigint"
            table("postgres", lambda size: (PostgresBackend(postgres.new_url()), lambda: int(postgres.psql(log))))
        finally:
            postgres.throw_away()
    if "redis" in stores:
        redis = start_redis()
        try:
            used = re.compile(r"used_memory:(\d+)")
            memory = lambda: int(used.findall(redis.cli("info", "memory"))[0])  # noqa: E731
            table("redis", lambda size: (installed_backend(redis.new_url()), memory))
        finally:
            redis.throw_away()
    table("memory", lambda size: (MemoryBackend(strict=True), lambda: 0))


if __name__ == "__main__":
    main()
