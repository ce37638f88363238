"""Lists stored runs and their histories."""

from __future__ import annotations

from collections.abc import Sequence

from cano import (
    RunFilter,
    RunRecord,
    RunStatus,
    Transition,
    read_history,
)
from cano.engine.ports import Host

from cano_durability.bounds import off_loop
from cano_durability.inspection.promises import require
from cano_durability.recovery.leases import with_status_at
from cano_durability.stored_runs import StoredRuns


class Lister:
    """Lists the stored runs of one kernel. `Kernel` documents the methods."""

    def __init__(self, kernel: Host, stored: StoredRuns) -> None:
        self._kernel = kernel
        self._stored = stored

    async def runs(self, filter: RunFilter) -> list[RunRecord]:
        """See `Kernel.runs`."""
        derived = filter.status in (RunStatus.INTERRUPTED, RunStatus.RUNNING)
        ask = filter._replace(status=RunStatus.RUNNING, limit=None) if derived else filter
        page, now = await self._page(ask), self._stored.now()

        def found() -> list[RunRecord]:
            records = (with_status_at(record, now) for record in page)
            return [record for record in records if filter.status is None or record.status is filter.status]

        return (await off_loop(len(page), found, self._stored.clock))[: filter.limit]

    async def _page(self, filter: RunFilter) -> Sequence[RunRecord]:
        """Return a page of the store's list, also if the store does not promise `pages`."""
        backend, after = self._stored.backend, filter.after
        if after is None or backend.capabilities.pages:
            return await backend.runs(filter)
        records = await backend.runs(filter._replace(after=None, limit=None))
        later = [record for record in records if record.place < after]
        return sorted(later, key=lambda record: record.place, reverse=True)[: filter.limit]

    async def history(self, run_id: str, after: int | None, limit: int | None) -> list[Transition]:
        """See `Kernel.history`."""
        require(self._kernel, "history")
        entries = await read_history(self._stored.backend, run_id, after, limit)
        if not entries:
            await self._stored.record(run_id)  # it may have no entry in that part
        elif after is None:
            origin = self._stored.origin(run_id, entries[0].own)
            entries = [entries[0]._replace(origin=origin), *entries[1:]]
        values, total = self._stored.values, self._stored.values.total()
        return [
            entry._replace(changed=values.changes(entry.changed, run_id, total), own={}, own_removed=())
            for entry in entries
        ]
