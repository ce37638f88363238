"""A program that tells a story in a stream, and stops in mid-sentence where its caller says, to be killed there."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from cano import Kernel, Workflow, current_step

STEPS, WORDS = 4, 60
"""The number of steps, and of the items that each flushes before it keeps one back."""

flow: Workflow[str] = Workflow("0", name="story").add_exit_state("end")


def teller(number: int, stop: tuple[int, int]) -> Any:
    """Return the task of a step. If `stop` names the step, the task never returns after the item that `stop` names."""

    async def tell(store: Any) -> str:
        step = current_step()
        for word in range(WORDS):
            await step.emit("story", f"{number}.{word}", flush=True)
            if (number, word) == stop:
                await asyncio.Event().wait()
        step.emit("story", f"{number}.last")
        return str(number + 1) if number + 1 < STEPS else "end"

    return tell


async def main(url: str, stop: tuple[int, int]) -> None:
    """Begin or resume the run, say so, and wait for its end."""
    for number in range(STEPS):
        flow.register(str(number), teller(number, stop))
    async with Kernel(store=url) as kernel:
        handle = await kernel.start(flow, {}, run_id="r")
        print("begun", flush=True)
        await handle.result()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], (int(sys.argv[2]), int(sys.argv[3]))))
