"""A program that acts on the runs of a store from outside, many at once, until it is killed.

python acting.py STORE FIRST
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from typing import Any

from cano import Kernel, Workflow, wait_for

flow: Workflow[Any] = Workflow("ASK", name="asking").add_exit_state("DONE")
flow.register("ASK", lambda store: wait_for("never", then="DONE"))
RUNS = 60
"""The number of parked runs that can be cancelled, `run 0` and so on."""


async def act(url: str, first: int) -> None:
    """Signal, fork and cancel, with a number that no other action has; print each one when it is done."""
    numbers = itertools.count(first)

    async def series(kernel: Kernel) -> None:
        while (number := next(numbers)) < RUNS:
            await kernel.signal("target", "go", id=f"{number}")
            print("signal", number, flush=True)
            await kernel.fork("target", 0, f"fork {number}")
            print("fork", number, flush=True)
            await kernel.cancel(f"run {number}")
            print("cancel", number, flush=True)

    async with Kernel(store=url, actor="Ada") as kernel:
        kernel.bind(flow)
        await asyncio.gather(*(series(kernel) for _ in range(10)))


if __name__ == "__main__":
    asyncio.run(act(sys.argv[1], int(sys.argv[2])))
