"""The workflow whose runs are attacked. When it is resumed, and the order of payments, do not change its outcome."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from cano import Kernel, KeyValueStore, RunStatus, Signal, TaskConfig, TaskError, Workflow, current_step, wait_for

flow = Workflow("BILL", name="shop", default_config=TaskConfig.minimal()).add_exit_state("DONE")
BROKEN: set[str] = set()
"""The runs that fail at `SHIP`."""
SLOW: dict[str, asyncio.Event] = {}
"""The runs that stop at `SHIP`, and an event that is set when they do."""


@flow.on("BILL")
async def bill(store: KeyValueStore) -> str:
    """Set the price, and wait for a payment."""
    store["draft"] = "to be removed"
    store["price"] = store["goods"] * 10
    store["paid"] = 0
    return wait_for("paid", then="COUNT")


@flow.on("COUNT")
async def count(store: KeyValueStore) -> str:
    """Count a payment, and wait for another one unless it was enough."""
    store["paid"] = store["paid"] + current_step().payload
    if store["paid"] < store["price"]:
        return wait_for("paid", then="COUNT")
    store.remove("draft")
    return "SHIP"


@flow.on("SHIP")
async def ship(store: KeyValueStore) -> str:
    """Send the goods."""
    run_id = current_step().run_id
    if run_id in BROKEN:
        raise ValueError(f"no goods for {run_id}")
    if run_id in SLOW:
        SLOW[run_id].set()
        await asyncio.Event().wait()
    store["sent"] = [run_id, store["goods"], store["paid"]]
    return "DONE"


def ends(run_id: str, goods: int) -> dict[str, Any]:
    """Return the data that the run ends with."""
    return {"goods": goods, "price": goods * 10, "paid": goods * 10, "sent": [run_id, goods, goods * 10]}


GOODS = {"parked": 2, "half": 4, "paid": 6, "sent": 8, "left": 10, "failed": 12}
"""The runs, and their data."""


async def begin(kernel: Kernel) -> None:
    """Start all runs; they wait for their first payment."""
    for run_id, goods in GOODS.items():
        handle = await kernel.start(flow, {"goods": goods}, run_id=run_id)
        await handle._run.ended()


async def pay(kernel: Kernel, run_id: str) -> None:
    """Send half of the payment, and return when the run has counted it."""
    await kernel.signal(run_id, "paid", GOODS[run_id] * 5)
    handle = await kernel.start(flow, run_id=run_id)
    await handle._run.ended()


async def act(kernel: Kernel) -> None:
    """Bring the runs to where their names say."""
    for run_id in ("half", "sent", "left", "failed"):
        await pay(kernel, run_id)
    await pay(kernel, "sent")
    BROKEN.add("failed")
    SLOW["left"] = asyncio.Event()
    try:
        await kernel.signal("failed", "paid", GOODS["failed"] * 5)
        with pytest.raises(TaskError):
            await kernel.run(flow, run_id="failed")
        await kernel.signal("left", "paid", GOODS["left"] * 5)
        await kernel.start(flow, run_id="left")
        await SLOW["left"].wait()
        await kernel.close()
    finally:
        BROKEN.clear()
        SLOW.clear()


async def send(kernel: Kernel) -> None:
    """Send payments that no kernel has taken yet: this one does not know the workflow."""
    assert kernel.backend is not None
    assert kernel.codec is not None
    for number, run_id in enumerate(("paid", "paid", "half")):
        payload = kernel.codec.encode(GOODS[run_id] * 5)
        await kernel.backend.put_signal(run_id, Signal(f"{run_id}-{number}", "paid", payload))


async def outcome(kernel: Kernel, run_id: str) -> dict[str, Any] | None:
    """Return the data that a run ends with now; None if it does not end."""
    assert kernel.backend is not None
    record = await kernel.backend.load(run_id)
    if record is None:
        return None
    if record.status is RunStatus.FAILED:
        return dict((await kernel.resume(flow, run_id)).data)
    handle = await kernel.start(flow, run_id=run_id)
    await handle._run.ended()
    record = await kernel.backend.load(run_id)
    if record is None or not record.status.finished:
        return None
    return dict((await handle.result()).data)
