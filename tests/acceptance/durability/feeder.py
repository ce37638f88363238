"""A program that feeds a batch, and kills itself after KILL_AFTER effects of its runs; and workflows of batches.

python feeder.py STORE EFFECTS INPUTS KILL_AFTER
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator
from typing import Any

from cano import ConcurrentWorkflow, Kernel, Task, TaskConfig, WaitStrategy, Workflow, current_step
from cano.engine.ports import Inputs
from cano_durability.batches.feeding import Feed
from cano_durability.keeper import Keeper


class Effects:
    """The file of the runs' effects, one line each; and after how many of them this process dies."""

    path = os.devnull
    left = -1


async def pay(store: Any) -> str:
    """Write the number to the file; kill the process when its time has come. Every seventh run fails."""
    with open(Effects.path, "a") as file:  # noqa: ASYNC230  # it is a local file
        print(store["n"], file=file)
    Effects.left -= 1
    if Effects.left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    if store["n"] % 7 == 0:
        raise ValueError(store["n"])
    return "rest"


async def rest(store: Any) -> str:
    """A second step."""
    store["paid"] = True
    return "end"


flow: Workflow[str] = Workflow("pay", name="payment", default_config=TaskConfig.minimal(), max_takeovers=None)
flow.register("pay", pay).register("rest", rest).add_exit_state("end")


async def _three() -> AsyncGenerator[Any, None]:
    for number in (5, 6, 7):
        yield {"n": number}


class Fed(Task[str]):
    """The task of a batch, for workflows that a test names. It has three inputs, of which the last one fails."""

    targets = ("DONE",)

    def __init__(self, wait: WaitStrategy) -> None:
        super().__init__(TaskConfig.minimal())
        self._wait = wait

    async def run(self, store: Any) -> str:
        """Execute the batch."""
        keeper = current_step().run.kernel.keeper
        assert isinstance(keeper, Keeper)
        batch = Feed(keeper.stored, Inputs(flow, _three, 3, 1, self._wait)).flow
        state: str = await batch.tasks["FEED"].task.run(store)
        return state


def _batch(wait: WaitStrategy) -> Workflow[str]:
    return Workflow("FEED", name="payment batch", max_takeovers=None).register("FEED", Fed(wait)).add_exit_state("DONE")


all_of_them = _batch(WaitStrategy.forever())
first_success = _batch(WaitStrategy.quota(1))
too_many_failures = _batch(WaitStrategy.quota(3))


async def main(store: str, effects: str, inputs: str, kill_after: str) -> None:
    """Feed the batch "b", and print its counts."""
    Effects.path, Effects.left = effects, int(kill_after)
    async with Kernel(store=store, lease=5) as kernel:
        numbers = ({"n": number} for number in range(1, int(inputs) + 1))
        status = await ConcurrentWorkflow(flow, limit=5, kernel=kernel).execute_durable(numbers, "b")
    print(json.dumps([*status[:4], status.ended_by]))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
