"""The workflow that the manifests in this folder execute: an order that is packed and shipped."""

from __future__ import annotations

from typing import Literal

from cano import KeyValueStore, Workflow, current_step


async def pack(store: KeyValueStore) -> Literal["SHIP"]:
    """Pack the order."""
    store["parcel"] = f"parcel of {current_step().run_id}"
    return "SHIP"


async def ship(store: KeyValueStore) -> Literal["SHIPPED"]:
    """Ship the parcel, with a key by which a carrier would ignore a repeated call."""
    store["label"] = current_step().idempotency_key
    return "SHIPPED"


flow: Workflow[str] = Workflow("PACK", name="shop")
flow.register("PACK", pack).register("SHIP", ship).add_exit_state("SHIPPED")
