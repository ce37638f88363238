"""`RunFilter`: which runs a list has."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from cano.records import RunRecord, RunStatus

if TYPE_CHECKING:
    from cano.search_attributes import AttributeRange

PAGE = 500
"""The most records that a reader of a list holds."""


class Condition(NamedTuple):
    """A condition of a filter for which its value must be compared otherwise than by equality.

    Attributes:
        sign: `=`, `!=`, `<`, `<=`, `>`, `>=` or `in`.
        value: what is compared with; of `in`, a sequence.
    """

    sign: str
    value: Any


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
        attributes: for search attributes, by name, a value, a `Condition`, or a list of conditions that must all be
            met. A run without the attribute meets none. Stores with `attributes` get it as a tuple of
            `cano.AttributeRange`: the encoded value must be in one of them.
        others: more conditions of the fields workflow, status, state, error and parent, each with the field's name; of
            a status, the value is a `RunStatus`. No store gets them.
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
    attributes: Mapping[str, Any] | None = None
    others: tuple[tuple[str, Condition], ...] = ()

    def matches(self, run: RunRecord) -> bool:
        """Return whether the run matches all fields but `limit`. Its attributes must be as stores get them."""
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
            and (self.attributes is None or _allowed(self.attributes, run.attributes))
            and all(_meets(run, name, condition) for name, condition in self.others)
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


def _allowed(wanted: Mapping[str, Sequence[AttributeRange]], found: Mapping[str, bytes]) -> bool:
    """Return whether each attribute is there, and in one of its ranges."""
    return all(
        name in found and any(low <= found[name] < high for low, high in ranges) for name, ranges in wanted.items()
    )


def _meets(run: RunRecord, name: str, condition: Condition) -> bool:
    """Return whether a field of a run meets a condition. A run without the field meets none."""
    value: Any = getattr(run, name)
    found = () if value is None else _classes(value) if name == "error" else (value,)
    wanted = condition.value if condition.sign == "in" else (condition.value,)
    return bool(found) and any(each in wanted for each in found) != (condition.sign == "!=")
