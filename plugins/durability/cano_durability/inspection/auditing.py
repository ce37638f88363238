"""Lists and prunes the audit of a store."""

from __future__ import annotations

from typing import cast

from cano import AuditEntry, AuditingStore
from cano.engine.ports import Host

from cano_durability.inspection.promises import require
from cano_durability.stored_runs import StoredRuns


class Auditor:
    """Lists and prunes the audit of one kernel's store. `Kernel` documents the methods."""

    def __init__(self, kernel: Host, stored: StoredRuns) -> None:
        self._kernel = kernel
        self._stored = stored

    def _store(self) -> AuditingStore:
        require(self._kernel, "audit")
        return cast(AuditingStore, self._stored.backend)

    async def audit(self, run_id: str | None, limit: int | None) -> list[AuditEntry]:
        """See `Kernel.audit`."""
        return list(await self._store().audit(run_id, limit))

    async def prune_audit(self, max_age: float) -> int:
        """See `Kernel.prune_audit`."""
        store, before = self._store(), self._stored.now() - max_age
        (entry,) = self._kernel.audited(None, "audit pruned", f"entries older than {max_age:g} s")
        return await store.prune_audit(before, entry)
