"""A program whose only step is killed in its second attempt, the first time: `python tries.py STORE`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

from cano import Kernel, Node, RetryExhaustedError, TaskConfig, Workflow, current_step
from cano_retry import Fixed


class Work(Node[str, list[int], None]):
    """A node whose `exec` always fails."""

    def say(self, phase: str) -> None:
        """Print which attempt of a phase begins."""
        step = current_step()
        print(phase, step.attempt, step.idempotency_key, flush=True)

    async def prep(self, store: Any) -> list[int]:
        """Prepare."""
        self.say("prep")
        return [os.getpid()]

    async def exec(self, prepared: list[int]) -> None:
        """Fail; in the process that has prepared, kill it in the second attempt."""
        self.say("exec")
        if current_step().attempt == 2 and prepared == [os.getpid()]:
            os.kill(os.getpid(), signal.SIGKILL)
        raise ConnectionError("not yet")

    async def post(self, store: Any, prepared: list[int], result: None) -> str:
        """End; it is never reached."""
        return "end"


flow = Workflow("work", name="tries").add_exit_state("end")
flow.register("work", Work(TaskConfig(retry=Fixed(3, 0.0))))


async def main(url: str) -> None:
    """Start the run, or continue it; print how many attempts it has made."""
    async with Kernel(store=url) as kernel:
        try:
            await kernel.run(flow, run_id="r")
        except RetryExhaustedError as error:
            print("attempts", error.attempts)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
