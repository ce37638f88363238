"""Explains for which limit of all processes a run waits, and which runs hold its slots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from cano import Explanation, HeldSlot, SlotStore, Standstill, StoreBackend

from cano_durability.inspection.durations import duration

SHOWN = 3
"""The most runs that an explanation names."""


async def no_slot(backend: StoreBackend, run_id: str, names: Sequence[str] | None, now: float) -> Explanation | None:
    """Return why a run waits for a slot, or None if it does not, as far as the store knows.

    Args:
        backend: the store.
        run_id: the run.
        names: the limits that it is known to wait for; None to look for them.
        now: wall-clock seconds.
    """
    if not backend.capabilities.slots:
        return None
    slots = await cast(SlotStore, backend).slots(names)
    asked = next((slot for slot in slots if slot.waits and slot.run_id == run_id), None)
    if asked is None and not names:
        return None
    wanted = asked.name if asked is not None else next((slot.name for slot in slots if slot.waits), (names or ("",))[0])
    holders = [slot for slot in slots if slot.name == wanted and not slot.waits]
    since = "" if asked is None else f"; it has waited for {duration(now - asked.since)}"
    if not holders:
        return Explanation(Standstill.RATE, f"{wanted}{since}")
    more = f" and {len(holders) - SHOWN} more" if len(holders) > SHOWN else ""
    held = ", ".join(_text(slot, now) for slot in holders[:SHOWN])
    return Explanation(Standstill.NO_SLOT, f"{wanted}, limit {holders[0].size}, held by {held}{more}{since}")


def _text(slot: HeldSlot, now: float) -> str:
    return f"run {slot.run_id} for {duration(now - slot.since)}"
