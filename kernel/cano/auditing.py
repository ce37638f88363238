"""The protocol of stores that keep an audit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from cano.protocols import StoreBackend
from cano.records import AuditEntry, Commit, RunRecord, Signal


@runtime_checkable
class AuditingStore(StoreBackend, Protocol):
    """A store that keeps an audit: who did what to which run from outside, and when.

    Four methods take an entry for the audit. The store adds it in the same transaction if, and only if, the action has
    an effect: the run is new, the commit is applied, the signal's id is new, or the run existed. An entry stays when
    its run is deleted. If a call is repeated after a lost answer, there is still one entry.
    """

    async def create(self, run: RunRecord, audit: AuditEntry | None = None) -> RunRecord:
        """See `StoreBackend.create`."""
        ...

    async def commit(self, commit: Commit, audit: AuditEntry | None = None) -> None:
        """See `StoreBackend.commit`."""
        ...

    async def put_signal(self, run_id: str, signal: Signal, audit: AuditEntry | None = None) -> None:
        """See `StoreBackend.put_signal`."""
        ...

    async def delete(self, run_id: str, audit: AuditEntry | None = None) -> bool:
        """See `StoreBackend.delete`."""
        ...

    async def add_audit(self, entries: Sequence[AuditEntry]) -> None:
        """Add entries. Their runs need not exist."""
        ...

    async def audit(self, run_id: str | None, limit: int | None) -> Sequence[AuditEntry]:
        """Return the entries, oldest first; entries with the same time are in any order.

        A corrupt entry hides no other: the texts that cannot be read are shown as "corrupt", a time as 0.

        Args:
            run_id: the run, or None for all entries.
            limit: the most entries, the newest ones; None for all.
        """
        ...

    async def prune_audit(self, before: float, audit: AuditEntry) -> int:
        """Delete the entries with a time before `before`, add `audit`, and return how many were deleted."""
        ...
