"""`python -m tests.benchmarks.streams`: items a second through PostgreSQL, from two writing processes to two readers.

Each writer is a process whose run flushes all its items in one step, awaiting each. A reader in this process follows
each run from its beginning. Goal: 10,000 items a second together.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from time import perf_counter
from typing import Any

from cano import Kernel, Workflow, current_step

from tests.servers.postgres import start_postgres

ITEMS = 50_000
"""Items of each writer."""

flow: Workflow[str] = Workflow("a", name="writes").add_exit_state("end")


@flow.on("a")
async def write(store: Any) -> str:
    """Flush short texts, as a language model does."""
    step = current_step()
    for number in range(store["items"]):
        await step.emit("tokens", f"token {number}", flush=True)
    return "end"


async def writer(url: str, run_id: str, items: int) -> None:
    """Execute one run, after its caller is ready to read."""
    async with Kernel(store=url) as kernel:
        await asyncio.to_thread(sys.stdin.readline)
        handle = await kernel.start(flow, {"items": items}, run_id=run_id)
        print("begun", flush=True)
        await handle.result()


async def measure(url: str, items: int) -> None:
    """Print what two writers and two readers do together."""
    async with Kernel(store=url) as kernel:
        program = [sys.executable, "-m", "tests.benchmarks.streams", "--write", url, "--items", str(items)]
        pipe = asyncio.subprocess.PIPE
        writers: list[Any] = [
            await asyncio.create_subprocess_exec(*program, "--run", run_id, stdin=pipe, stdout=pipe)
            for run_id in ("one", "two")
        ]
        began = perf_counter()
        for each in writers:
            each.stdin.write(b"\n")

        async def read(run_id: str, process: Any) -> int:
            await process.stdout.readline()
            count = 0
            async for item in (await kernel.attach(run_id)).stream("tokens"):
                count += 1
                assert item.offset == count, "an item is missing"
            return count

        counts = await asyncio.gather(*map(read, ("one", "two"), writers))
        took = perf_counter() - began
        for each in writers:
            await each.wait()
        assert counts == [items, items]
        print(
            f"{sum(counts):,} items from two writers in {took:.2f} s: {sum(counts) / took:,.0f} items/s (goal 10,000)"
        )


def main() -> None:
    """Start a server and measure; or write, as one of the processes."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.streams", description=__doc__)
    parser.add_argument("--items", type=int, default=ITEMS)
    parser.add_argument("--write", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--run", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.write:
        asyncio.run(writer(given.write, given.run, given.items))
        return
    server = start_postgres()
    try:
        asyncio.run(measure(server.url(server.new_database()), given.items))
    finally:
        server.throw_away()


if __name__ == "__main__":
    main()
