"""Recognises batches and their children by their records."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from cano import RunFilter, RunRecord, RunStatus, SerializationError, derived_id

from cano_durability.journal import Journal
from cano_durability.keys import BATCH, OF
from cano_durability.stored_runs import StoredRuns

SUFFIX = " batch"
"""The end of the names of batches' workflows. Others may have such names, too."""
UNFINISHED = RunStatus.RUNNING, RunStatus.PARKED
FINISHED = RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED


def child_id(batch: str, index: int) -> str:
    """Return the id of the run of an input, by its place."""
    return derived_id(f"{batch}/{index}")


def is_child(stored: StoredRuns, record: RunRecord | None, batch: Journal) -> bool:
    """Return whether a run is a child of a batch that is executed here."""
    if record is None or record.parent != batch.run_id:
        return False
    return bool(stored.values.own(OF, record.own, record.run_id) == batch.created)


class Children:
    """The children of batches in a store, which are deleted with them. The runs that the methods get may be listed."""

    def __init__(self, stored: StoredRuns) -> None:
        self._stored = stored

    async def begun(self, run: RunRecord) -> bool:
        """Return whether a run is a batch, as its record says, and may have children."""
        if not run.workflow.endswith(SUFFIX):  # lists have no more of it, and few have such a name
            return False
        try:
            record = await self._stored.backend.load(run.run_id)
        except SerializationError:
            return False
        return record is not None and record.own.get(BATCH) is not None

    async def unfinished(self, run: RunRecord) -> str | None:
        """Return the id of a child of a batch that has not ended: it was resumed. None without one."""
        if await self.begun(run):
            for status in UNFINISHED:
                for child in await self._listed(run.run_id, 1, status):
                    return child.run_id
        return None

    async def finished(self, run: RunRecord) -> list[RunRecord]:
        """Return the children of a batch that have ended."""
        if not await self.begun(run):
            return []
        return [child for status in FINISHED for child in await self._listed(run.run_id, None, status)]

    async def left(self, batch: str) -> bool:
        """Return whether a batch has children."""
        return bool(await self._listed(batch, 1))

    async def pages(self, batch: str, size: int) -> AsyncIterator[Sequence[RunRecord]]:
        """Yield the children of a batch that have ended, which the caller deletes, page by page."""
        for status in FINISHED:
            last = ""
            while (page := await self._listed(batch, size, status)) and page[-1].run_id != last:
                last = page[-1].run_id  # one that could not be deleted
                yield page

    async def _listed(self, batch: str, limit: int | None, status: RunStatus | None = None) -> Sequence[RunRecord]:
        return await self._stored.backend.runs(RunFilter(parent=batch, limit=limit, status=status))
