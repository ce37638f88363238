"""A program that holds a run in the middle of a step until a line comes on its standard input.

python holder.py STORE RUN
"""

from __future__ import annotations

import asyncio
import sys
from enum import Enum

from cano import Kernel, KeyValueStore, Workflow


class State(Enum):
    """Two steps and the end."""

    FIRST = 1
    SECOND = 2
    DONE = 3


flow = Workflow(State.FIRST, name="held")


@flow.on(State.FIRST)
async def first(store: KeyValueStore) -> State:
    """Nothing that takes time."""
    store["steps"] = 1
    return State.SECOND


@flow.on(State.SECOND)
def second(store: KeyValueStore) -> State:
    """Wait for a line, in a thread."""
    print("in step", flush=True)
    word = sys.stdin.readline().strip()
    store["steps"] = store["steps"] + 1
    store["by"] = word
    return State.DONE


flow.add_exit_state(State.DONE)


async def main(store: str, run_id: str) -> None:
    """Drive the run, and say how that ended."""
    async with Kernel(store=store, lease=0.4, poll=0.02, grace=0) as kernel:
        handle = await kernel.start(flow, run_id=run_id)
        try:
            result = await handle.result()
        except Exception as error:  # noqa: BLE001  # its name is what the test looks at
            print("error", type(error).__name__, flush=True)
        else:
            print("result", result.data["by"], flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
