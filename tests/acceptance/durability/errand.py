"""The workflow that workers share: five steps that each count one up, and note in a file that they were begun."""

from __future__ import annotations

import asyncio
import os
from enum import Enum

from cano import KeyValueStore, Workflow, current_step

STEPS = 5
BEGUN = "CANO_TEST_BEGUN"
"""Names the environment variable with that file's path, where one is wanted."""

LET_GO = asyncio.Event()
"""Set, unless a program wants to hand in runs and make no step of them itself."""
LET_GO.set()


class State(Enum):
    """Going on, and the end."""

    GO = 1
    DONE = 2


flow = Workflow(State.GO, name="errand")


@flow.on(State.GO)
async def go(store: KeyValueStore) -> State:
    """Count one up."""
    await LET_GO.wait()
    if path := os.environ.get(BEGUN):
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, f"{current_step().run_id} {current_step().seq}\n".encode())  # one write: lines stay whole
        os.close(file)
    await asyncio.sleep(0)  # others have their turn in the middle of a step
    store["count"] = store.get("count", int, 0) + 1
    store.append("seqs", current_step().seq)
    return State.DONE if store["count"] == STEPS else State.GO


flow.add_exit_state(State.DONE)
