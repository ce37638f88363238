"""`python -m tests.benchmarks.idle`: what a store of many finished runs costs a worker that has nothing to do.

It makes an SQLite file with as many finished runs of one step as asked, and prints the file's size and the price of the
file for each run. A worker then recovers a workflow of that file: the processor time that it takes while nothing
happens, in percent of one core. `cano runs` lists the newest runs in a process of its own. A worker with parked runs
shows how much memory each takes in the process that parked it; leases and wakes are in the store.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from typing import Any

from cano import Kernel, RunRecord, RunStatus, Workflow, wait_for
from cano_sqlite import SqliteBackend

NOW = 1_700_000_000.0
AT_ONCE = 500
PLUGINS = ["msgspec", "durability"]


async def ask(store: Any) -> Any:
    """Wait for a signal, which the benchmark does not send, at most for a year."""
    return wait_for("answer", then="DONE", timeout=3e7, on_timeout="DONE")


def waiting() -> Workflow[str]:
    """A workflow whose runs are parked."""
    return Workflow("ASK", name="waiting").register("ASK", ask).add_exit_state("DONE")


async def fill(path: Path, size: int) -> None:
    """Store finished runs with a short value each."""
    store = SqliteBackend(path, synchronous="normal")
    await store.open()
    for first in range(0, size, AT_ONCE):
        await asyncio.gather(*(store.create(finished(number)) for number in range(first, min(first + AT_ONCE, size))))
    await store.close()


def finished(number: int) -> RunRecord:
    """A run that has ended, of the workflow that is recovered or of another one."""
    return RunRecord(
        run_id=f"run-{number:08}", workflow="waiting" if number % 2 else "other", version="1",
        fingerprint="start A; state A does A -> B", state="DONE", seq=1, status=RunStatus.SUCCEEDED,
        data={"key": b"value"}, created=NOW + number, updated=NOW + number,
    )  # fmt: skip


async def idle(path: Path, seconds: float) -> float:
    """The percentage of a core that a worker takes which has nothing to do."""
    async with Kernel(store=f"sqlite:///{path}", plugins=[*PLUGINS, "sqlite"], discover=False) as kernel:
        await kernel.recover(waiting())
        await asyncio.sleep(seconds / 5)
        begin = time.process_time()
        await asyncio.sleep(seconds)
        return (time.process_time() - begin) / seconds * 100


def listing(path: Path) -> float:
    """The seconds of processor time of `cano runs`, with the start of its process."""

    def used() -> float:
        usage = getrusage(RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    begin = used()
    command = [str(Path(sys.executable).with_name("cano")), "runs", "--store", f"sqlite:///{path}", "--limit", "50"]
    subprocess.run(command, check=True, capture_output=True)
    return used() - begin


async def parked(path: Path, count: int) -> float:
    """The bytes that a parked run takes in the process that parked it."""
    flow = waiting()
    async with Kernel(store=f"sqlite:///{path}?synchronous=normal", plugins=[*PLUGINS, "sqlite"], discover=False) as (
        kernel
    ):
        others = 10  # tasks of the kernel itself

        async def park(first: int, last: int) -> None:
            for number in range(first, last, AT_ONCE):
                ids = [f"parked-{each:08}" for each in range(number, min(number + AT_ONCE, last))]
                handles = await asyncio.gather(*(kernel.start(flow, {}, run_id=run_id) for run_id in ids))
                handles.clear()
                while len(tasks := asyncio.all_tasks()) > others:  # the kernel looks at each run once more
                    await asyncio.wait(tasks - {asyncio.current_task()}, return_when=asyncio.FIRST_COMPLETED)

        await park(0, AT_ONCE)  # what is made once
        gc.collect()
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        await park(AT_ONCE, AT_ONCE + count)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return (after - before) / count


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.idle", description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000, help="the finished runs of the store")
    parser.add_argument("--parked", type=int, default=50_000, help="the parked runs of one process")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long the worker is idle")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "runs.db"
        asyncio.run(fill(path, given.runs))
        size = path.stat().st_size
        print(f"{given.runs:,} finished runs: {size / 1e6:,.1f} MB, {size / given.runs:,.0f} bytes a run", flush=True)
        print(f"an idle worker: {asyncio.run(idle(path, given.seconds)):.2f} % of a core", flush=True)
        print(f"`cano runs`: {listing(path) * 1e3:.0f} ms of processor time", flush=True)
        each = asyncio.run(parked(Path(folder) / "parked.db", given.parked))
        print(f"a parked run in the process that parked it: {each:.0f} bytes")


if __name__ == "__main__":
    main()
