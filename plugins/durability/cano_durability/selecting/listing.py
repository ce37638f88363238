"""Lists stored runs and their histories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from cano import (
    AttributeStore,
    ConfigurationError,
    FilterError,
    RunFilter,
    RunPage,
    RunRecord,
    RunStatus,
    Transition,
    read_history,
    read_ready,
)
from cano.engine.ports import Host, in_pages

from cano_durability.bounds import off_loop
from cano_durability.inspection.promises import require
from cano_durability.keys import IMPORT
from cano_durability.recovery.leases import with_status_at
from cano_durability.selecting.parts import BY_LEASE, by_lease, counted_parts, split, statuses_of
from cano_durability.stored_runs import StoredRuns, is_incomplete

PAGE = 1000
"""The most runs that the store is asked for at once if others of them are left out afterwards."""
_MORE = "state", "created_after", "created_before", "updated_after", "updated_before"
"""The fields that only stores with `filters` obey."""
_MOST_PAGES = 10
"""The most pages of the store that are read for a page of a list."""
_OF_PAGE = 500
"""The most runs of a page, if a caller sets no limit."""
Part = tuple[list[RunRecord], tuple[float, str] | None]
"""The first runs of a list, and the place up to which all of it is known; None for its end."""


class Lister:
    """Lists the stored runs of one kernel. `Kernel` documents the methods."""

    def __init__(self, kernel: Host, stored: StoredRuns) -> None:
        self._kernel = kernel
        self._stored = stored

    async def selected(self, filter: RunFilter, where: str | None) -> RunFilter:
        """See `RunKeeper.selected`. Attributes become ranges of encoded values."""
        if where is not None:
            from cano_durability.selecting.where import parsed  # late: most programs have no filter as text

            for name, value in parsed(where, self._stored.now()).items():
                if getattr(filter, name):
                    problem = f"both {name}= and where= give a condition of this kind: {where!r}"
                    raise ConfigurationError(problem, key=name)
                filter = filter._replace(**{name: value})
        if filter.attributes is not None:
            filter = filter._replace(attributes=await self._allowed(filter.attributes, filter.workflow))
        if filter.error is not None and filter.status is None:
            filter = filter._replace(status=RunStatus.FAILED)  # no other run has an error of its own
        if filter.order != "-created":
            require(self._kernel, "orders")
        if filter.by_update and not all(status.finished for status in statuses_of(filter)):
            message = f"the order {filter.order} sorts runs by their end; add a status of runs that have ended, such as"
            raise FilterError(f"{message} status = failed, or status in (succeeded, failed, cancelled)")
        return filter

    async def _allowed(self, attributes: Mapping[str, Any], workflow: str | None) -> Mapping[str, Any]:
        """Return the ranges of encoded values that conditions on attributes allow. Raises FilterError."""
        from cano_durability.searching.conditions import allowed  # late: most filters have no attributes

        declared: dict[str, set[type]] = {}
        for plan in list(self._kernel.bound.values()):
            for name, kind in plan.flow.attributes.items() if workflow in (None, plan.name) else ():
                declared.setdefault(name, set()).add(kind)
        stored = None
        kept = self._stored.backend.capabilities.attributes
        if kept and attributes.keys() - declared.keys():  # of a workflow that this kernel does not know, or misspelt
            stored = await cast(AttributeStore, self._stored.backend).attribute_names()
        found = allowed(attributes, declared, stored)
        require(self._kernel, "attributes")
        return found

    async def count(self, filter: RunFilter) -> int:
        """See `RunKeeper.count`."""
        if filter.after is None:
            filter = filter._replace(order=RunFilter().order)
        promises = self._stored.backend.capabilities
        counted = promises.attributes and (filter.error is None or promises.outcomes)
        if counted and filter.others and (parts := counted_parts(filter)) is not None:
            found = max(sum([factor * await self.count(part) for factor, part in parts]), 0)
            return found if filter.limit is None else min(found, filter.limit)
        if counted and filter.status not in BY_LEASE and not filter.others:
            return await cast(AttributeStore, self._stored.backend).count(filter)
        number = 0
        async for _ in in_pages(self.runs, filter):
            number += 1
        return number

    async def runs(self, filter: RunFilter) -> list[RunRecord]:
        """See `Kernel.runs`. What the store does not filter by, this does, page after page."""
        found = list[RunRecord]()
        while filter.limit is None or filter.limit > 0:
            some, after = await self._part(filter)
            found += some
            if after is None:
                break
            left = None if filter.limit is None else filter.limit - len(some)
            filter = filter._replace(after=after, limit=left)
        return found

    async def page(self, filter: RunFilter) -> RunPage:
        """See `RunListing.page`."""
        limit = _OF_PAGE if filter.limit is None else filter.limit
        if limit == 0:
            return RunPage([], None)
        found, after = await self._part(filter._replace(limit=limit + 1))
        if len(found) > limit:
            found, after = found[:limit], filter.place_of(found[limit - 1])
        return RunPage(found, None if after is None else filter.cursor_at(after))

    async def _part(self, filter: RunFilter) -> Part:
        """Return the first runs of a list, up to its limit, or those that some pages of the store have."""
        parts = split(filter) if self._stored.backend.capabilities.pages else [filter]
        if len(parts) == 1:
            return await self._looked_at(parts[0])
        lists = [await self._looked_at(each) for each in parts]
        ends = [after for _, after in lists if after is not None]
        end = (min if filter.ascending else max)(ends, default=None)
        every = {filter.place_of(record): record for records, _ in lists for record in records}
        places = sorted(every, reverse=not filter.ascending)
        if end is not None:
            places = [place for place in places if (place <= end if filter.ascending else place >= end)]
        if filter.limit is not None and len(places) >= filter.limit:
            places = places[: filter.limit]
            end = places[-1]
        return [every[place] for place in places], end

    async def _looked_at(self, filter: RunFilter) -> Part:
        """Return the first runs of a list whose status and fields the store can look for."""
        promises, found = self._stored.backend.capabilities, list[RunRecord]()
        # later pages do not, since this reads all interrupted runs
        if promises.queues and (filter.status, filter.after, filter.attributes) == (RunStatus.INTERRUPTED, None, None):
            return await self._interrupted(filter)
        status = RunStatus.RUNNING if by_lease(filter) else filter.status
        ask = filter._replace(status=status, error=filter.error if promises.outcomes else None, others=())
        if promises.queues and filter.status in (RunStatus.RUNNING, RunStatus.QUEUED):
            ask = ask._replace(held=filter.status is RunStatus.RUNNING)
        if not promises.filters:
            unset: dict[str, Any] = dict.fromkeys(_MORE)
            if promises.outcomes and status is not None and status.finished:
                unset["state"] = filter.state
            ask = ask._replace(**unset)
        if ask == filter and filter.status is not RunStatus.RUNNING:
            rest = RunFilter()
        else:
            rest = filter._replace(workflow=None, parent=None, after=None, attributes=None)
            ask = ask._replace(limit=PAGE if promises.pages else None)
        pages = 0
        while True:
            page, now = await self._page(ask), self._stored.now()

            def matching(page: Sequence[RunRecord] = page, now: float = now) -> list[RunRecord]:
                seen = (with_status_at(each, now) for each in page if not is_incomplete(each))
                return [record for record in seen if rest.matches(record)]

            found += await off_loop(len(page), matching, self._stored.clock)
            pages += 1
            if ask.limit is None or len(page) < ask.limit:
                return _end(filter, found)
            if filter.limit is not None and len(found) >= filter.limit:
                return found[: filter.limit], filter.place_of(found[filter.limit - 1])
            ask = ask._replace(after=filter.place_of(page[-1]))
            if pages == _MOST_PAGES:
                return found, ask.after

    async def _interrupted(self, filter: RunFilter) -> Part:
        """Return the first interrupted runs, without reading those that wait in queues, of which there may be many."""
        backend, now, found = self._stored.backend, self._stored.now(), dict[str, RunRecord]()
        names = None if filter.workflow is None else (filter.workflow,)
        free = await (backend.ready(now) if names is None else read_ready(backend, now, names))
        held = in_pages(self._page, RunFilter(filter.workflow, RunStatus.RUNNING, held=True))
        for record in [*free, *[each async for each in held]]:
            seen = with_status_at(record, now)
            if not is_incomplete(record) and filter.matches(seen):
                found[record.run_id] = seen
        return _end(filter, sorted(found.values(), key=filter.place_of, reverse=not filter.ascending))

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
        if not entries or (after is None and IMPORT in entries[0].own):
            await self._stored.record(run_id)  # it may have no entry in that part; or its import was cut off
        if not entries:
            return []
        if after is None:
            origin = self._stored.origin(run_id, entries[0].own)
            entries = [entries[0]._replace(origin=origin), *entries[1:]]
        values, total = self._stored.values, self._stored.values.total()
        return [
            entry._replace(changed=values.changes(entry.changed, run_id, total), own={}, own_removed=())
            for entry in entries
        ]


def _end(filter: RunFilter, found: list[RunRecord]) -> Part:
    """Return the rest of a list, of which all is known, up to the filter's limit."""
    if filter.limit is None or len(found) <= filter.limit:
        return found, None
    return found[: filter.limit], filter.place_of(found[filter.limit - 1])
