"""A program whose class Order gains a field: `old` is killed in a run with an Order, which `new` cannot read."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import dataclass
from typing import Any, Literal

from cano import Kernel, TaskConfig, Workflow
from cano_scheduler import Scheduler

RUNS = 3
"""How many runs of the new version succeed before it ends."""


def program(new: bool) -> tuple[Workflow[str], asyncio.Event]:
    """Return the workflow of one version, and an event that is set when `RUNS` of its runs have come to their end."""
    if new:

        @dataclass
        class Order:
            id: int
            customer: str  # a field without default: what was stored before cannot be read
    else:

        @dataclass
        class Order:  # type: ignore[no-redef]  # the older version
            id: int

    Order.__qualname__ = "Order"  # the same name in both versions
    flow: Workflow[str] = Workflow("A", name="orders", types=[Order], default_config=TaskConfig.minimal())
    enough, ended = asyncio.Event(), 0

    @flow.on("A")
    async def first(store: Any) -> Literal["B"]:
        store["order"] = Order(1, "x") if new else Order(1)  # type: ignore[call-arg]  # the older version
        return "B"

    @flow.on("B")
    async def second(store: Any) -> Literal["END"]:
        nonlocal ended
        if not new:
            os.kill(os.getpid(), signal.SIGKILL)
        ended += 1
        if ended == RUNS:
            enough.set()
        return "END"

    return flow.add_exit_state("END"), enough


async def main(url: str, version: str) -> None:
    """Run the schedule until enough runs have ended, and print what the kernel and the schedule say."""
    flow, enough = program(version == "new")
    async with Kernel(store=url, block=["structlog"]) as kernel:
        async with Scheduler(kernel, poll=0.1) as scheduler:
            scheduler.every("often", flow, 0.2)
            await enough.wait()
            info = await scheduler.status("often")
        (dead,) = [run for run in await kernel.runs(workflow="orders") if not run.status.finished]
        print((await kernel.explain(dead.run_id)).reason.name, info.failures, await kernel.cancel(dead.run_id))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
