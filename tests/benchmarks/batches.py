"""`python -m tests.benchmarks.batches`: a batch in a store beside as many separate calls of `kernel.run`.

Both execute a workflow of one step for each input, with as many runs at once, each in a process and on a store of its
own. The batch is executed a second time in another process, after its last input was added: that is the price of
inputs that are done. The peak of the memory of each process is the resident set.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

from cano import ConcurrentWorkflow, Kernel, Workflow

PLUGINS = ["sqlite", "postgres", "msgspec", "durability"]
BATCH = "batch"


async def double(store: Any) -> str:
    """The only step."""
    store["twice"] = 2 * store["n"]
    return "DONE"


flow: Workflow[str] = Workflow("DOUBLE", name="double").register("DOUBLE", double).add_exit_state("DONE")


def inputs(count: int) -> Iterator[dict[str, int]]:
    """The data of the runs."""
    return ({"n": number} for number in range(count))


async def separately(kernel: Kernel, count: int, limit: int) -> None:
    """Execute a run for each input, without a batch."""
    data = inputs(count)

    async def work() -> None:
        for each in data:
            await kernel.run(flow, each)

    await asyncio.gather(*(work() for _ in range(limit)))


async def as_batch(kernel: Kernel, count: int, limit: int) -> None:
    """Execute a batch."""
    status = await ConcurrentWorkflow(flow, limit=limit, kernel=kernel).execute_durable(inputs(count), BATCH)
    assert status.completed == count


async def interrupted(kernel: Kernel, count: int, limit: int) -> None:
    """Execute a batch up to the last input, before which reading them fails."""

    def failing() -> Iterator[dict[str, int]]:
        yield from inputs(count - 1)
        raise EOFError

    try:
        await ConcurrentWorkflow(flow, limit=limit, kernel=kernel).execute_durable(failing(), BATCH)
    except EOFError:
        return
    raise AssertionError


WORK = {"separate runs": separately, "a batch": interrupted, "the same again": as_batch}


async def measure(what: str, url: str, count: int, limit: int) -> None:
    """Print seconds, processor seconds, and the peak of the memory in MiB."""
    async with Kernel(store=url, discover=False, plugins=PLUGINS) as kernel:
        began, cpu = time.perf_counter(), time.process_time()
        await WORK[what](kernel, count, limit)
        print(time.perf_counter() - began, time.process_time() - cpu, getrusage(RUSAGE_SELF).ru_maxrss / 1024)


def main(arguments: list[str]) -> None:
    """Print a line for each way."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.batches", description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=20_000, metavar="N", help="number of inputs")
    parser.add_argument("--limit", type=int, default=100, metavar="N", help="runs at once")
    parser.add_argument("--store", metavar="URL", help="an empty store; by default SQLite files")
    parser.add_argument("--only", choices=WORK, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.only is not None:
        return asyncio.run(measure(options.only, options.store, options.inputs, options.limit))
    print(f"{options.inputs:,} inputs, {options.limit} at once")
    print(f"{'':<16}{'a run':>12}{'CPU a run':>12}{'peak memory':>14}")
    with tempfile.TemporaryDirectory() as folder:
        for what in WORK:
            file = f"sqlite:///{Path(folder) / ('runs.db' if what == 'separate runs' else 'batch.db')}"
            command = [sys.executable, "-m", "tests.benchmarks.batches", "--only", what]
            command += ["--store", options.store or file, "--limit", str(options.limit)]
            command += ["--inputs", str(options.inputs)]
            printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
            seconds, cpu, memory = map(float, printed.split())
            each = 1e6 / options.inputs
            print(f"{what:<16}{seconds * each:>9,.1f} µs{cpu * each:>9,.1f} µs{memory:>10,.1f} MiB", flush=True)
    return None


if __name__ == "__main__":
    main(sys.argv[1:])
