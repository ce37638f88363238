"""The workflow of these tests, and the values that it writes."""

from __future__ import annotations

import random
from typing import Any, Literal

from cano import Kernel, KeyValueStore, TaskConfig, Workflow, current_step, wait_for

SECRET = "the plain words of a secret "
LONG = SECRET * 200
NOISE = random.Random(7).randbytes(3000)

flow = Workflow("WRITE", name="layered", default_config=TaskConfig.minimal()).add_exit_state("DONE")


@flow.on("WRITE")
async def write(store: KeyValueStore) -> Literal["READ"]:
    """Store a long value, one that does not shrink and a small one; then wait."""
    store["long"] = LONG
    store["noise"] = NOISE
    store["small"] = 7
    return wait_for("more", then="READ")


@flow.on("READ")
async def read(store: KeyValueStore) -> Literal["LAST"]:
    """Store the signal's payload."""
    assert store["long"] == LONG
    store["more"] = current_step().payload
    return "LAST"


@flow.on("LAST")
async def last(store: KeyValueStore) -> Literal["DONE"]:
    """Change the long value."""
    store["long"] = store["long"] + store["given"]
    return "DONE"


END: dict[str, Any] = {
    "given": SECRET, "long": LONG + SECRET, "noise": NOISE, "small": 7, "more": [LONG, NOISE],
}  # fmt: skip


async def parked(kernel: Kernel, run_id: str = "one") -> None:
    """Start a run and return when it is parked."""
    await kernel.start(flow, {"given": SECRET}, run_id=run_id)
    while (await kernel.runs())[0].state != "READ":
        await kernel.clock.sleep(0.005)


async def signalled(kernel: Kernel, run_id: str = "one") -> None:
    """Send the signal that the run waits for."""
    await kernel.signal(run_id, "more", [LONG, NOISE])
