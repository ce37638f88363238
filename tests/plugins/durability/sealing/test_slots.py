"""Limits over all processes on an encrypted store."""

from __future__ import annotations

import asyncio
from typing import Any

from cano import Kernel, Limit, SlotStore, Workflow, task


async def test_an_encrypted_store_gets_no_value_of_a_key() -> None:
    """A sealed store keeps slots, too. The value of a limit's key is in no name: it is replaced by its hash."""
    inside, leave = asyncio.Event(), asyncio.Event()

    async def body(store: Any) -> str:
        inside.set()
        await leave.wait()
        return "end"

    flow: Workflow[str] = Workflow("work", name="secret", limit=Limit(1, key="patient", scope="store"))
    flow.register("work", task(body)).add_exit_state("end")
    async with Kernel(store="memory://?strict=1&codec=encrypt") as kernel:
        running = asyncio.ensure_future(kernel.run(flow, {"patient": "Ada"}))
        await inside.wait()
        assert isinstance(kernel.backend, SlotStore)
        (slot,) = await kernel.backend.slots()
        leave.set()
        await running
    assert slot.name.startswith("secret by patient[#")
    assert "Ada" not in slot.name
