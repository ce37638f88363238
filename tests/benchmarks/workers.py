"""`python -m tests.benchmarks.workers`: how many runs a second several workers take over from one store and end.

The store is PostgreSQL, or with `--store` a SQLite file or Redis; WAL, notices and the server's CPU are PostgreSQL's.

Each worker is a process that calls `recover` at the same moment as the others; the time ends with the last run's end.
All counts of workers take turns in each round, and the best of each counts. A claim is refused if the run is not
executed after it: because another worker holds the run, or the claim was released again. WAL is what the server writes
for all of it; CPU is what the workers and the server use, of all processors together. Notices are what the workers
notify one another of: how many, and their bytes for each run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import psycopg
from cano import Kernel, Run, RunRecord, StoreBackend, Workflow, hookimpl

from tests.servers.postgres import PostgresServer, start_postgres
from tests.servers.redis import RedisServer, start_redis

GO, ENDED = b"go\n", b"."
BODIES: tuple[tuple[str, float, int, dict[int, float]], ...] = (
    ("empty bodies", 0.0, 0, {2: 1.3, 4: 0.9}),
    ("empty bodies, 100 at once", 0.0, 100, {}),
    ("bodies of 20 ms, 32 at once", 0.02, 32, {2: 1.8, 4: 1.8}),
)
"""What the steps do: a title, seconds to wait, and `concurrency` of each worker, 0 for none; and goals.

A goal, by number of workers, is the lowest rate, as a multiple of the rate of half as many workers.
"""
REFUSED, WAL = 0.01, 1024
"""Goals for all of them: the part of the claims that may be refused, and the bytes of WAL a run."""


def flow_of(seconds: float) -> Workflow[str]:
    """A workflow of three steps, each of which waits for some seconds."""

    async def work(store: Any) -> str:
        if seconds:
            await asyncio.sleep(seconds)
        return "END" if store["n"] == 2 else _count(store)

    flow: Workflow[str] = Workflow("STEP", name=f"bench {seconds:g}")
    return flow.register("STEP", work).add_exit_state("END")


def _count(store: Any) -> str:
    store["n"] += 1
    return "STEP"


# a worker


class Claims:
    """A store that counts its claims, and how many runs they got."""

    def __init__(self, store: StoreBackend) -> None:
        self._store = store
        self.asked = 0
        self.calls = dict.fromkeys(("ready", "load", "claim", "claim_ready"), 0)

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._store, name)
        if name in self.calls:
            return self._counted(name, call)
        return call

    def _counted(self, name: str, call: Any) -> Any:
        async def counted(*arguments: Any) -> Any:
            self.calls[name] += 1
            found = await call(*arguments)
            self.asked += len(found) if name == "claim_ready" else name == "claim"
            return found

        return counted


class Ends:
    """Tells the parent process of each run that ends."""

    ended = 0

    @hookimpl
    def cano_run_finished(self, run: Run) -> None:
        """Write one byte."""
        self.ended += 1
        os.write(1, ENDED)


def store_at(url: str) -> StoreBackend:
    """Return the store at a URL."""
    store, _ = Kernel().store_at(url)
    assert store is not None
    return store


async def work(url: str, seconds: float, at_once: int) -> None:
    """Take over runs when the parent process says so, until it closes the pipe. Print the counts."""
    store, ends = Claims(store_at(url)), Ends()
    loop = asyncio.get_running_loop()
    async with Kernel(store=store, plugins=["msgspec", "durability", ends], discover=False) as kernel:
        flow = flow_of(seconds)
        kernel.bind(flow)
        await kernel.runs(limit=1)
        os.write(1, GO)
        await loop.run_in_executor(None, sys.stdin.buffer.readline)
        began = time.process_time()
        await kernel.recover(flow, concurrency=at_once or None)
        await loop.run_in_executor(None, sys.stdin.buffer.read)
        counts = {"asked": store.asked, "ended": ends.ended, "cpu": time.process_time() - began, **store.calls}
    os.write(2, json.dumps(counts).encode())


# the parent process


class Measured(NamedTuple):
    """What some workers did.

    Attributes:
        rate: runs a second.
        refused: the part of the claims that were refused.
        wal: bytes a run. cpu, server_cpu: seconds a run of the workers, and of the server.
        notices, notice_bytes: notifications in all, and their bytes a run.
        calls: how often each call of the store was made, by all workers.
    """

    rate: float
    refused: float
    wal: float
    cpu: float
    server_cpu: float
    notices: int
    notice_bytes: float
    calls: dict[str, int]


async def filled(url: str, seconds: float, runs: int) -> None:
    """Store runs that no process holds."""
    async with Kernel(store=store_at(url), plugins=["msgspec", "durability"], discover=False) as kernel:
        plan = kernel.bind(flow_of(seconds))
        assert kernel.backend is not None
        assert kernel.codec is not None
        data = {"n": kernel.codec.encode(0)}
        now = kernel.clock.time()
        for first in range(0, runs, 500):
            await asyncio.gather(
                *(
                    kernel.backend.create(
                        RunRecord(
                            run_id=f"run {number:07}", workflow=plan.name, version=plan.version,
                            fingerprint=plan.fingerprint, state=plan.start.name, data=data,
                            created=now + number / 1e6, updated=now + number / 1e6,
                        )
                    )
                    for number in range(first, min(first + 500, runs))
                )
            )  # fmt: skip


Server = PostgresServer | RedisServer | None


def measured(server: Server, workers: int, runs: int, seconds: float, at_once: int) -> Measured:
    """Let some workers end all runs of a new store: a SQLite file, if there is no server."""
    with TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/runs.db" if server is None else server.new_url()
        asyncio.run(filled(url, seconds, runs))
        if isinstance(server, PostgresServer):
            server.psql("VACUUM ANALYZE", urlsplit(url).path[1:])
        return worked(server, url, workers, runs, seconds, at_once)


class Costs:
    """What a PostgreSQL server does: its WAL, its CPU, and its notifications. Of other stores, nothing is known."""

    def __init__(self, server: Server, url: str) -> None:
        self._server = server if isinstance(server, PostgresServer) else None
        self.wal, self.cpu = 0, 0.0
        self.notices: list[int] = []
        if self._server is not None:
            self._listener = psycopg.connect(url, autocommit=True)
            self._listener.execute("LISTEN cano")
            self.cpu, self._before = cpu_of(self._server.pid), self._server.psql("SELECT pg_current_wal_insert_lsn()")

    def stop(self) -> None:
        """All runs have ended."""
        if self._server is not None:
            self.wal = int(self._server.psql(f"SELECT pg_current_wal_insert_lsn() - '{self._before}'"))
            self.cpu = cpu_of(self._server.pid) - self.cpu

    def close(self) -> None:
        """The workers have ended."""
        if self._server is not None:
            self.notices = [len(notice.payload.encode()) for notice in self._listener.notifies(timeout=0)]
            self._listener.close()


def worked(server: Server, url: str, workers: int, runs: int, seconds: float, at_once: int) -> Measured:
    """Let some workers end all runs of a store."""
    command = [sys.executable, "-m", "tests.benchmarks.workers", "--work", url, str(seconds), str(at_once)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    processes = [subprocess.Popen(command, bufsize=0, **pipes) for _ in range(workers)]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.read(len(GO)) == GO
        costs = Costs(server, url)
        took = asyncio.run(_ended(processes, runs))
        costs.stop()
        counts = [json.loads(process.communicate()[1]) for process in processes]
        costs.close()
    finally:
        for process in processes:
            process.kill()
            process.wait()
    total = {name: sum(count[name] for count in counts) for name in counts[0]}
    assert total["ended"] == runs, f"{total['ended']} runs ended here, of {runs}"
    refused = 1 - runs / max(total["asked"], 1)
    calls = {name: total[name] for name in ("ready", "load", "claim", "claim_ready")}
    return Measured(
        runs / took, refused, costs.wal / runs, total["cpu"] / runs, costs.cpu / runs, len(costs.notices),
        sum(costs.notices) / runs, calls,
    )  # fmt: skip


def cpu_of(pid: int) -> float:
    """Return the seconds of CPU that a process and its children have used; 0 where that cannot be found out."""
    clock, ticks = os.sysconf("SC_CLK_TCK"), 0
    for process in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            fields = process.read_text().rpartition(")")[2].split()
            if process.parent.name == str(pid):
                ticks += sum(map(int, fields[11:15]))  # with the children that have ended
            elif fields[1] == str(pid):
                ticks += sum(map(int, fields[11:13]))
    return ticks / clock


async def _ended(processes: Sequence[subprocess.Popen[bytes]], runs: int) -> float:
    """Let the workers begin, and return the seconds until all runs have ended."""
    loop, all_ended, left = asyncio.get_running_loop(), asyncio.Event(), runs

    def read(pipe: Any) -> None:
        nonlocal left
        left -= len(os.read(pipe.fileno(), 1 << 16))
        if left <= 0:
            all_ended.set()

    pipes = [process.stdout for process in processes if process.stdout is not None]
    for pipe in pipes:
        loop.add_reader(pipe, read, pipe)
    began = time.perf_counter()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(GO)
    await all_ended.wait()
    took = time.perf_counter() - began
    for pipe in pipes:
        loop.remove_reader(pipe)
    return took


def main() -> None:
    """Measure and print; or, with `--work`, be one worker."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.workers", description=__doc__)
    parser.add_argument("--runs", type=int, default=1000, help="runs of three steps")
    parser.add_argument("--workers", default="1,2,4", help="the numbers of workers")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured; the best counts")
    parser.add_argument(
        "--store", choices=("postgres", "sqlite", "redis"), default="postgres", help="where the runs are"
    )
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        url, seconds, at_once = given.work
        asyncio.run(work(url, float(seconds), int(at_once)))
        return
    numbers = [int(number) for number in given.workers.split(",")]
    server: Server = None
    if given.store != "sqlite":
        server = start_redis() if given.store == "redis" else start_postgres("-c", "max_connections=200")
    try:
        for title, seconds, at_once, goals in BODIES:
            found: dict[int, list[Measured]] = {number: [] for number in numbers}
            for _ in range(given.rounds):
                for number in numbers:
                    found[number].append(measured(server, number, given.runs, seconds, at_once))
            show(title, {number: max(some) for number, some in found.items()}, goals)
    finally:
        if server is not None:
            server.throw_away()


def show(title: str, found: dict[int, Measured], goals: dict[int, float]) -> None:
    """Print the table of one kind of body, and which goals were missed."""
    columns = "workers runs/s x-half refused WAL/run CPU/run server notices bytes/run ready load claim groups".split()  # noqa: SIM905
    print(f"\n{title}\n" + "".join(f"{column:>10}" for column in columns))
    missed = []
    for number, (rate, refused, wal, cpu, server_cpu, notices, notice_bytes, calls) in found.items():
        half = found.get(number // 2)
        ratio = "" if half is None else f"{rate / half.rate:.2f}"
        counts = "".join(f"{count:>10,}" for count in (notices, round(notice_bytes), *calls.values()))
        times = "".join(f"{seconds * 1e6:>7,.0f} µs" for seconds in (cpu, server_cpu))
        print(f"{number:>10}{rate:>10,.0f}{ratio:>10}{refused:>10.1%}{wal:>8,.0f} B{times}{counts}", flush=True)
        if half is not None and rate < goals.get(number, 0) * half.rate:
            missed.append(f"{number} workers ≥ {goals[number]} x {number // 2}")
        missed += [f"{number} workers: refused < {REFUSED:.0%}"] * (refused >= REFUSED)
        missed += [f"{number} workers: WAL ≤ {WAL:,} B"] * (wal > WAL)
    print("goals missed: " + ("; ".join(missed) or "none"))


if __name__ == "__main__":
    main()
