"""Corrupt rows of an audit hide no other: the same test for each store."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from cano import AuditEntry
from cano.testing.contract_base import NOW


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
    assert all(isinstance(text, str) for text in (odd.action, odd.actor, odd.detail))

    pruned = AuditEntry(None, "audit pruned", "Ada", NOW + 10)
    assert await store.prune_audit(NOW + 10, pruned) == 3
    assert await store.audit(None, None) == [pruned]
