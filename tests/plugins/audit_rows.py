"""Tests of the audit that are the same for each SQL store."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from cano import AuditEntry, Signal, StoreUnavailableError
from cano.testing.contract_base import NOW, loaded, new_run, step


async def check_action_and_entry_are_one(store: Any) -> None:
    """An action whose entry cannot be stored, since the table of the audit is missing, is not done, either."""
    entry = AuditEntry("run", "signal", "Ada", 0.0)
    for call in (
        store.put_signal("run", Signal("1", "go"), entry),
        store.commit(step(1), entry),
        store.delete("run", entry),
        store.create(new_run("another"), entry),
    ):
        with pytest.raises(StoreUnavailableError):
            await call

    assert await store.next_signal("run", "go") is None
    assert await loaded(store) == new_run()
    assert await store.load("another") is None


async def check_corrupt_entries(store: Any, corrupt: Callable[[], object]) -> None:
    """A corrupt entry is listed with texts and a time that every formatter takes, and can be pruned.

    `corrupt` changes the second of three entries.
    """
    entries = [AuditEntry("run", "signal", "Ada", NOW + number, "go") for number in range(3)]
    await store.add_audit(entries)
    corrupt()

    assert {entries[0], entries[2]} <= {*await store.audit("run", None)}
    found = await store.audit(None, None)
    assert len(found) == 3
    (odd,) = {*found} - {entries[0], entries[2]}
    assert odd != entries[1]
    assert odd.run_id in ("run", "corrupt")
    assert math.isfinite(odd.at)
    assert odd.at > 0 or odd.detail in ("corrupt", "corrupt time; go"), "the user could take it for an entry of 1970"
    assert all(isinstance(text, str) for text in (odd.action, odd.actor, odd.detail))

    pruned = AuditEntry(None, "audit pruned", "Ada", NOW + 10)
    assert await store.prune_audit(NOW + 10, pruned) == 3
    assert await store.audit(None, None) == [pruned]
