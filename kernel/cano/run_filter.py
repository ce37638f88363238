"""`RunFilter`: which runs a list has."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from cano.records import RunRecord, RunStatus

PAGE = 500
"""The most records that a reader of a list holds."""


class RunFilter(NamedTuple):
    """A filter for a list of runs, which is sorted newest first. None matches all.

    Attributes:
        workflow: name of the workflow.
        status: the stored status.
        parent: id of the parent run.
        limit: maximum number of runs.
        after: the `place` of a run, which may be deleted by now: only runs that come after it in the list. Only stores
            that promise `pages` get it.
        state: name of the state that is next, or of the exit state. Only stores that promise `filters` get this and
            the following fields.
        created_after, created_before, updated_after, updated_before: wall-clock seconds, which are not included.
        error: name of the class of a failed run's error, or of its cause. No store gets it.
    """

    workflow: str | None = None
    status: RunStatus | None = None
    parent: str | None = None
    limit: int | None = None
    after: tuple[float, str] | None = None
    state: str | None = None
    created_after: float | None = None
    created_before: float | None = None
    updated_after: float | None = None
    updated_before: float | None = None
    error: str | None = None

    def matches(self, run: RunRecord) -> bool:
        """Return whether the run matches all fields but `limit`."""
        return (
            self.workflow in (None, run.workflow)
            and self.status in (None, run.status)
            and self.parent in (None, run.parent)
            and (self.after is None or run.place < self.after)
            and self.state in (None, run.state)
            and (self.created_after is None or run.created > self.created_after)
            and (self.created_before is None or run.created < self.created_before)
            and (self.updated_after is None or run.updated > self.updated_after)
            and (self.updated_before is None or run.updated < self.updated_before)
            and (self.error is None or (run.error is not None and self.error in _classes(run.error)))
        )


async def in_pages(
    read: Callable[[RunFilter], Awaitable[Sequence[RunRecord]]], filter: RunFilter
) -> AsyncIterator[RunRecord]:
    """Yield the runs that `read` lists, which is called for each page. A run that is created meanwhile is left out."""
    left = filter.limit
    while left is None or left > 0:
        most = PAGE if left is None else min(left, PAGE)
        page = await read(filter._replace(limit=most))
        for record in page:
            yield record
        if len(page) < most:
            return
        filter, left = filter._replace(after=page[-1].place), None if left is None else left - most


def _classes(error: Mapping[str, Any]) -> tuple[str, str]:
    """Return the names of the classes of a stored error and of its cause."""
    return str(error.get("type")), str(error.get("cause") or "").partition(":")[0]
