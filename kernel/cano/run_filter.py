"""`RunFilter`: which runs a list has."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from cano.checks import text
from cano.errors import FilterError
from cano.records import RunRecord, RunStatus

if TYPE_CHECKING:
    from cano.search_attributes import AttributeRange

PAGE = 500
"""The most records that a reader of a list holds."""
_LONGEST = 200
"""The most characters of the name of a class by which runs are found."""
ORDERS = "-created", "created", "-updated", "updated"
"""The orders of lists; one that begins with - has the latest runs first."""


class Condition(NamedTuple):
    """A condition of a filter for which its value must be compared otherwise than by equality.

    Attributes:
        sign: `=`, `!=`, `<`, `<=`, `>`, `>=` or `in`.
        value: what is compared with; of `in`, a sequence.
    """

    sign: str
    value: Any


class RunFilter(NamedTuple):
    """A filter for a list of runs. None matches all.

    Attributes:
        workflow: name of the workflow.
        status: the stored status.
        parent: id of the parent run.
        limit: maximum number of runs.
        after: the `place_of` a run, which may be deleted by now: only runs that come after it in the list. Only stores
            that promise `pages` get it.
        state: name of the state that is next, or of the exit state. Only stores that promise `filters` get this and
            the following fields.
        created_after, created_before, updated_after, updated_before: wall-clock seconds, which are not included.
        error: name of the class of a failed run's error, or of its cause. Only stores that promise `outcomes` get it.
        attributes: for search attributes, by name, a value, a `Condition`, or a list of conditions that must all be
            met. A run without the attribute meets none. Stores with `attributes` get it as a tuple of
            `cano.AttributeRange`: the encoded value must be in one of them.
        held: whether the run has a holder, whose lease may have expired. Only stores that promise `queues` get it.
        others: more conditions of the fields workflow, status, state, error and parent, each with the field's name; of
            a status, the value is a `RunStatus`. No store gets them.
        order: how the list is sorted: by `created` or `updated`, the earliest run first, or with a leading `-` the
            latest. A list by `updated` has only runs that have ended, and a store gets it with a status. Runs of the
            same time are sorted by id. Only stores that promise `orders` get another order than `-created`.
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
    order: str = "-created"
    held: bool | None = None

    @property
    def ascending(self) -> bool:
        """Whether the earliest run comes first."""
        return not self.order.startswith("-")

    @property
    def by_update(self) -> bool:
        """Whether the list is sorted by the time of the last update, which is the end of each run in it."""
        return self.order.endswith("updated")

    def place_of(self, run: RunRecord) -> tuple[float, str]:
        """Return the run's place in the list: the time by which it is sorted, then its id."""
        return run.updated if self.by_update else run.created, run.run_id

    def cursor_at(self, place: tuple[float, str]) -> str:
        """Return a place as text, for a page that begins after it. It stays valid while runs change."""
        import json  # late, as base64: most programs have no cursor
        from base64 import urlsafe_b64encode

        time, run_id = place
        return urlsafe_b64encode(json.dumps([self.order, float(time), run_id]).encode()).decode().rstrip("=")

    def place_at(self, cursor: str) -> tuple[float, str]:
        """Return the place of which `cursor_at` made a text. Raises FilterError if it did not make this one."""
        import json
        from base64 import urlsafe_b64decode

        try:
            order, time, run_id = json.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
            right = isinstance(time, float) and math.isfinite(time) and bool(text("run_id", run_id))
        except (ValueError, TypeError, RecursionError):
            right = False
        if not right:
            raise FilterError(f"{cursor!r} is not the cursor of a list; give one as you got it", text=cursor)
        if order != self.order:
            message = f"the cursor is of a list in the order {order!r}, not {self.order!r}; give the order, too"
            raise FilterError(message, text=cursor)
        return time, run_id

    def matches(self, run: RunRecord) -> bool:
        """Return whether the run matches all fields but `limit`. Its attributes must be as stores get them."""
        return (
            self.workflow in (None, run.workflow)
            and self.status in (None, run.status)
            and self.parent in (None, run.parent)
            and (self.after is None or self._comes_after(self.place_of(run), self.after))
            and (not self.by_update or run.status.finished)
            and self.state in (None, run.state)
            and (self.created_after is None or run.created > self.created_after)
            and (self.created_before is None or run.created < self.created_before)
            and (self.updated_after is None or run.updated > self.updated_after)
            and (self.updated_before is None or run.updated < self.updated_before)
            and (self.error is None or (run.error is not None and self.error in self.classes_of(run.error)))
            and (self.attributes is None or _allowed(self.attributes, run.attributes))
            and self.held in (None, run.holder is not None)
            and all(_meets(run, name, condition) for name, condition in self.others)
        )

    @staticmethod
    def classes_of(error: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names of the classes of a stored error and of its cause, of those that are names."""
        names = str(error.get("type")), str(error.get("cause") or "").partition(":")[0]
        return tuple(name for name in dict.fromkeys(names) if 0 < len(name) <= _LONGEST and "\0" not in name)

    def _comes_after(self, place: tuple[float, str], other: tuple[float, str]) -> bool:
        return place > other if self.ascending else place < other


class RunPage(NamedTuple):
    """A part of a list of runs.

    Attributes:
        runs: the runs.
        cursor: for `kernel.runs(after=…)`, the place at which the next page begins; None if this is the last one.
    """

    runs: Sequence[RunRecord]
    cursor: str | None


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
        filter, left = filter._replace(after=filter.place_of(page[-1])), None if left is None else left - most


def _allowed(wanted: Mapping[str, Sequence[AttributeRange]], found: Mapping[str, bytes]) -> bool:
    """Return whether each attribute is there, and in one of its ranges."""
    return all(
        name in found and any(low <= found[name] < high for low, high in ranges) for name, ranges in wanted.items()
    )


def _meets(run: RunRecord, name: str, condition: Condition) -> bool:
    """Return whether a field of a run meets a condition. A run without the field meets none."""
    value: Any = getattr(run, name)
    found = () if value is None else RunFilter.classes_of(value) if name == "error" else (value,)
    wanted = condition.value if condition.sign == "in" else (condition.value,)
    return bool(found) and any(each in wanted for each in found) != (condition.sign == "!=")
