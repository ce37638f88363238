"""Copying the audit of a store: the entries of the source, and one for each run that is imported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import cast

from cano import AuditEntry, AuditingStore, StoreBackend

AT_ONCE = 500
"""The most entries that are added in one call."""


class Importer:
    """Makes the entries of imports.

    Args:
        target: the store that the runs are copied to.
        actor: who copies them.
        source: the name of the store that they come from, without secrets.
    """

    def __init__(self, target: StoreBackend, actor: str, source: str) -> None:
        self._keeps = target.capabilities.audit
        self._actor = actor
        self._source = source

    def entry(self, run_id: str, now: float, action: str = "import") -> tuple[AuditEntry, ...]:
        """Return the entry of a run's import, as arguments of `AuditingStore`: none if the target keeps no audit."""
        return (AuditEntry(run_id, action, self._actor, now, f"from {self._source}"),) if self._keeps else ()


async def copy_audit(source: StoreBackend, target: StoreBackend, run_ids: Collection[str] | None) -> None:
    """Add the entries to the target that only the source has, if both keep an audit.

    Args:
        source, target: two open stores.
        run_ids: only the entries of these runs; None for all.
    """
    if not (source.capabilities.audit and target.capabilities.audit):
        return
    reader, writer = cast(AuditingStore, source), cast(AuditingStore, target)
    there = Counter(await writer.audit(None, None))
    missing = []
    for entry in await reader.audit(None, None):
        if there[entry] > 0:
            there[entry] -= 1
        elif run_ids is None or entry.run_id in run_ids:
            missing.append(entry)
    for at in range(0, len(missing), AT_ONCE):
        await writer.add_audit(missing[at : at + AT_ONCE])
