"""Deletes stored runs."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import cast

from cano import (
    ConflictError,
    PruningStore,
    Retention,
    RunFilter,
    RunNotFoundError,
    RunRecord,
    SerializationError,
    is_held,
)
from cano.engine.ports import Host, in_pages

from cano_durability.batches.membership import Children
from cano_durability.claiming import has_ended
from cano_durability.failures import is_unreadable
from cano_durability.families.lineage import announce_end
from cano_durability.inspection.promises import require
from cano_durability.patience import despite_cancellation
from cano_durability.recovery.leases import with_status_at
from cano_durability.selecting.listing import Lister
from cano_durability.stored_runs import StoredRuns, is_incomplete

PAGE = 10_000
"""The most runs that the store is asked for at once: each time it counts those that `keep_last` keeps."""

GROUP = 1000
"""The most runs that are deleted in one transaction, for which other writers wait."""


class Deleter:
    """Deletes the stored runs of one kernel. `Kernel` documents the methods."""

    def __init__(self, kernel: Host, stored: StoredRuns, lister: Lister) -> None:
        self._kernel = kernel
        self._stored = stored
        self._lister = lister
        self._children = Children(stored)

    async def prune(
        self, retention: Retention, workflow: str | None, dry_run: bool, filter: RunFilter | None = None
    ) -> list[str]:
        """See `Kernel.prune`. With `filter`, only runs that match are deleted.

        A child is kept with a parent that can continue or be resumed, and needs its result.
        """
        require(self._kernel, "retention")
        if not self._stored.backend.capabilities.prune:
            return await self._prune_each(retention, workflow, dry_run, filter)
        backend, found, after = cast(PruningStore, self._stored.backend), list[RunRecord](), None
        gone = set[str]()
        while page := await backend.expired(retention, self._stored.now(), PAGE, after):
            after = page[-1].place
            meant = [run for run in page if _is_meant(run, retention) and workflow in (None, run.workflow)]
            meant = await self._matching(meant, filter)
            if dry_run:
                for run in meant:
                    if run.run_id not in gone and await self._could_go(run, gone):
                        children = await self._children.finished(run)
                        found += [run, *(child for child in children if child.run_id not in gone)]
                        gone.update(child.run_id for child in children)
                continue
            found += [run for run in meant if is_unreadable(run) and await self._delete(run.run_id, "prune")]
            readable = [run for run in meant if not is_unreadable(run)]
            for first in range(0, len(readable), GROUP):
                found += await self._prune_group(backend, readable[first : first + GROUP])
            if len(page) < PAGE:
                break
        return [run.run_id for run in sorted(found, key=lambda run: run.place, reverse=True)]

    async def _matching(self, runs: list[RunRecord], filter: RunFilter | None) -> list[RunRecord]:
        """Return those of these runs that match a filter. They are sorted by their place; few others are read."""
        if filter is None or not runs:
            return runs
        times = [run.created for run in runs]
        after, before = math.nextafter(min(times), -math.inf), math.nextafter(max(times), math.inf)
        part = filter._replace(
            created_after=after if filter.created_after is None else max(after, filter.created_after),
            created_before=before if filter.created_before is None else min(before, filter.created_before),
        )
        found = {record.run_id async for record in in_pages(self._lister.runs, part) if record.status.finished}
        return [run for run in runs if run.run_id in found]

    async def _prune_group(self, backend: PruningStore, runs: list[RunRecord]) -> list[RunRecord]:
        """Delete expired runs, parents before their children. Return the deleted ones."""
        deleted = list[RunRecord]()
        while runs:
            ids = {run.run_id for run in runs}
            turn = [run for run in runs if run.parent not in ids] or runs
            parents = {run.parent for run in turn if run.parent is not None}
            needing = {parent for parent in parents if await self._needs_children(parent)}
            free = dict.fromkeys(run.run_id for run in turn if run.parent not in needing)
            for run in turn:
                if run.run_id in free and await self._children.begun(run):
                    deleted += await self._delete_children(run.run_id, "prune")
                    if await self._children.left(run.run_id):
                        del free[run.run_id]
            gone = set(await backend.delete_finished([*free], self._stored.now(), *self._kernel.audited(None, "prune")))
            deleted += [run for run in turn if run.run_id in gone]
            done = {run.run_id for run in turn}
            runs = [run for run in runs if run.run_id not in done]
        return deleted

    async def _could_go(self, run: RunRecord, gone: set[str]) -> bool:
        """Return whether an expired run could be deleted after those that are `gone`, and add it to them."""
        needed = run.parent is not None and run.parent not in gone and await self._needs_children(run.parent)
        needed = needed or await self._children.unfinished(run) is not None
        if not needed and not is_held(run, self._stored.now()):
            gone.add(run.run_id)
        return run.run_id in gone

    async def _needs_children(self, run_id: str) -> bool:
        """Return whether a run can continue or be resumed, and may need the results of its children."""
        if run_id in self._kernel.active:
            return True
        try:
            return not has_ended((await self._stored.head(run_id))[0], resume_ended=True)
        except (RunNotFoundError, SerializationError):
            return False

    async def _prune_each(
        self, retention: Retention, workflow: str | None, dry_run: bool, filter: RunFilter | None
    ) -> list[str]:
        """See `prune`, of a store that is not a `PruningStore`."""
        expired, newer, deleted = set[str](), dict[str, int](), list[str]()
        records = await self._stored.backend.runs(RunFilter())
        for record in records:
            if not _is_meant(record, retention):
                continue
            if record.status.finished:
                count = newer[record.workflow] = newer.get(record.workflow, 0) + 1
                old = retention.expired(count - 1, self._stored.now() - record.updated)
                if old and workflow in (None, record.workflow):
                    expired.add(record.run_id)
        if filter is not None:
            found = in_pages(self._lister.runs, filter)
            expired &= {record.run_id async for record in found if record.status.finished}
        needing = {run.run_id for run in records if run.run_id not in expired and not has_ended(run, resume_ended=True)}
        batches = {run.run_id for run in records if run.run_id in expired and await self._children.begun(run)}
        for record in records:
            if record.parent in batches and record.status.finished:
                expired.add(record.run_id)
            elif record.parent in batches:
                expired.discard(record.parent)
        order = [run for run in reversed(records) if run.run_id not in batches]
        for record in order + [run for run in records if run.run_id in batches]:  # parents first, but batches last
            if record.run_id in expired:
                free = record.parent not in needing and not (dry_run and is_held(record, self._stored.now()))
                if free and (dry_run or await self._delete(record.run_id, "prune")):
                    deleted.append(record.run_id)
                elif not has_ended(record, resume_ended=True):
                    needing.add(record.run_id)
        return deleted[::-1]

    async def delete(self, run_id: str) -> None:
        """See `Kernel.delete`."""
        require(self._kernel, "retention")
        if run_id in self._kernel.active:
            raise ConflictError(_unfinished(run_id, "this kernel executes it", run_id), run_id=run_id)
        with suppress(SerializationError):
            found = await self._stored.backend.load(run_id)
            if found is not None and is_incomplete(found) and await self._stored.backend.delete(run_id):
                return
            record = with_status_at(await self._stored.record(run_id), self._stored.now())
            if not record.status.finished:
                raise ConflictError(_unfinished(run_id, f"it is {record.status.value}", run_id), run_id=run_id)
            parent = None if record.parent is None else await self._stored.backend.load(record.parent)
            if parent is not None and not has_ended(parent, resume_ended=True):
                problem = f"its parent {parent.run_id} may still need its result"
                call = "delete" if parent.status.finished else "cancel"
                raise ConflictError(_unfinished(run_id, problem, parent.run_id, call), run_id=run_id)
            if await self._children.begun(record):
                if (child := await self._children.unfinished(record)) is not None:
                    problem = f"its child {child} has not ended"
                    raise ConflictError(_unfinished(run_id, problem, child), run_id=run_id)
                await self._delete_children(run_id, "delete")
        if not await self._delete(run_id, "delete"):
            raise ConflictError(f"run {run_id} is not deleted: it is being resumed", run_id=run_id)

    async def _delete_children(self, batch: str, action: str) -> list[RunRecord]:
        """Delete the finished children of a batch. Return the deleted ones."""
        backend, deleted = self._stored.backend, list[RunRecord]()
        async for page in self._children.pages(batch, GROUP):
            if backend.capabilities.prune:
                store, audit = cast(PruningStore, backend), self._kernel.audited(None, action)
                ids = [run.run_id for run in page]
                gone = set(await store.delete_finished(ids, self._stored.now(), *audit))
            else:
                gone = {run.run_id for run in page if await self._delete(run.run_id, action)}
            deleted += [run for run in page if run.run_id in gone]
        return deleted

    async def _delete(self, run_id: str, action: str) -> bool:
        """Delete a finished run, unless it is being resumed. A run that cannot be read cannot be resumed, either."""
        backend, token, audit = self._stored.backend, None, self._stored.audited(run_id, action)
        with self._stored.holding:
            try:
                token = await self._stored.claim(run_id, self._stored.now())
                record = await backend.load(run_id)
                if token is not None and record is not None and record.status.finished:
                    return await backend.delete(run_id, *audit)
            except SerializationError:
                with suppress(SerializationError):  # its parent may be parked until its end
                    listed, _ = await self._stored.head(run_id)
                    if listed.parent is not None:
                        await announce_end(backend, listed.parent, run_id, listed.token)
                return await backend.delete(run_id, *audit)
            except BaseException:
                if token is not None:
                    await despite_cancellation(backend.release(run_id, token), self._kernel.clock)
                raise
            if token is not None:
                await backend.release(run_id, token)
        return False


def _is_meant(record: RunRecord, retention: Retention) -> bool:
    """Return whether `retention` may apply to a run: of one that cannot be read, neither age nor rank is known."""
    return retention.on_terminal == "delete" or not is_unreadable(record)


def _unfinished(run_id: str, problem: str, other: str, call: str = "cancel") -> str:
    return f"run {run_id} is not deleted: {problem}; {call} first: kernel.{call}({other!r})"
