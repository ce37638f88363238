"""A run whose process is stopped in the middle of its transaction: `python sleeper.py URL RUN`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import uuid
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))

from cano import Kernel, Workflow, current_step, task

from tests.acceptance.durability.shared import ONLY
from tests.acceptance.durability.test_transactions import LEASE, Bank


def flow_of(bank: Bank, who: str) -> Workflow[str]:
    """A workflow that pays once, and that falls asleep in it in a process of its own."""

    async def pay(store: Any) -> str:
        async with current_step().transaction() as tx:
            await bank.pay(tx, who)
            if who == "sleeper":
                os.kill(os.getpid(), signal.SIGSTOP)
        return "end"

    return Workflow("pay", name="order").add_exit_state("end").register("pay", task(pay))


async def main(url: str, run_id: str) -> None:
    """Start the run, as on another machine: no other process can tell whether this one is alive."""
    async with Kernel(store=url, lease=LEASE, **ONLY) as kernel:
        keeper: Any = kernel.keeper
        keeper.stored.holder = f"elsewhere:1@:{uuid.uuid4().hex}"
        await kernel.run(flow_of(Bank(url), "sleeper"), run_id=run_id)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
