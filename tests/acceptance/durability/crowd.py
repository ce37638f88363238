"""The workflows that submitted runs have: their steps write into a pipe when they begin and end, and wait at a gate."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from cano import KeyValueStore, Workflow, current_step, wait_for

PIPE, GATE = "CANO_TEST_PIPE", "CANO_TEST_GATE"
"""Names the environment variables with the paths of the pipes."""


def tell(what: str) -> None:
    """Write a line in one piece: the process, what it did, and the step."""
    step = current_step()
    file = os.open(os.environ[PIPE], os.O_WRONLY)
    os.write(file, f"{os.getpid()} {what} {step.run_id} {step.seq}\n".encode())
    os.close(file)


async def work(store: KeyValueStore) -> str:
    """Count one up, and let others have their turn in the middle of the step."""
    tell("+")
    await asyncio.to_thread(os.getpid)
    store["count"] = store.get("count", int, 0) + 1
    tell("-")
    return "end" if store["count"] == 3 else "work"


async def gated(store: KeyValueStore) -> str:
    """Wait until the test has written into the gate, and count that."""
    gate, opened = os.open(os.environ[GATE], os.O_RDWR | os.O_NONBLOCK), asyncio.Event()
    asyncio.get_running_loop().add_reader(gate, opened.set)
    tell("+")
    try:
        await opened.wait()
    finally:
        asyncio.get_running_loop().remove_reader(gate)
        os.close(gate)
    store["passed"] = store.get("passed", int, 0) + 1
    return "then"


async def then(store: KeyValueStore) -> str:
    """Do the rest."""
    tell("+")
    return "end"


async def ask(store: KeyValueStore) -> Any:
    """Wait for an answer."""
    return wait_for("go", then="answered")


async def answered(store: KeyValueStore) -> str:
    """Keep the answer, and the process that got it."""
    store["answer"], store["pid"] = current_step().payload, os.getpid()
    return "end"


crowd: Workflow[str] = Workflow("work", name="crowd").register("work", work).add_exit_state("end")
gate: Workflow[str] = Workflow("gated", name="gate").register("gated", gated).register("then", then)
gate.add_exit_state("end")
question: Workflow[str] = Workflow("ask", name="question").register("ask", ask).register("answered", answered)
question.add_exit_state("end")
