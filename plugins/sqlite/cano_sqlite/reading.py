"""Queries: functions of a connection, called inside a read transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from cano import Lane, RunFilter, RunRecord, RunStatus, SerializationError, Transition
from cano_durability.stores.lanes import STATUSES, first_of, statuses_of
from cano_msgspec.packing import unpacked_record, unreadable, unreadable_record

from cano_sqlite import queues
from cano_sqlite.schema import ENDED
from cano_sqlite.snapshot import Place, fetch, lines, next_mark, read_data

_NO_DATA: dict[str, Any] = {}  # one for all runs of lists: the garbage collector counts each dict
_STATUSES = {status.value: status for status in RunStatus}
_NONE = type(None)
_TYPES: tuple[Any, ...] = (str, str, str, str, (str, _NONE), float, float, str, int, (str, _NONE), (float, _NONE), int)
"""The types of the columns of `_RECORDS` from `run_id` to `token`."""

_COLUMNS = """
    SELECT runs.id, runs.head, runs.folded, runs.run_id, definitions.workflow, definitions.version,
        definitions.fingerprint, runs.parent, runs.created, runs.updated, runs.status, runs.seq, runs.holder,
        runs.expires, runs.token, journal.run, journal.seq, journal.status, journal.state, journal.extra,
        runs.queue, runs.priority, runs.key """
_JOURNAL = " LEFT JOIN journal ON journal.id = runs.head "
_RECORDS = _COLUMNS + "FROM runs" + _JOURNAL + "LEFT JOIN definitions ON definitions.run = runs.id "
_BY_ID = _RECORDS + "WHERE runs.run_id = ?"
_WITH_WORKFLOW = _COLUMNS + "FROM runs CROSS JOIN definitions ON definitions.run = runs.id" + _JOURNAL
_OF_WORKFLOW = _COLUMNS + "FROM definitions CROSS JOIN runs ON runs.id = definitions.run" + _JOURNAL
# a unary plus keeps a condition from choosing the index: many runs are parked
_CAN_GO_ON = """
        SELECT runs.id FROM runs {0} WHERE runs.{1}
            AND (runs.holder IS NULL OR runs.expires IS NULL OR runs.expires < :now)"""
_WAKING, _RUNNING = "wake <= :now AND +runs.status = 'parked'", "status = 'running'"
_THEIRS = """CROSS JOIN definitions ON definitions.run = runs.id
            AND definitions.workflow IN (SELECT value FROM json_each(:workflows))"""
READY, READY_OF_WORKFLOWS = (
    f"{_RECORDS}WHERE runs.id IN ({_CAN_GO_ON.format(join, _WAKING)} UNION ALL {_CAN_GO_ON.format(join, _RUNNING)})"
    " ORDER BY runs.id"
    for join in ("", _THEIRS)
)


MORE = {
    "state": "journal.state = :state",
    "outcome": "runs.outcome = :state",
    "error": ":error IN (runs.error, runs.cause)",
    "created_after": "{created} > :created_after",
    "created_before": "{created} < :created_before",
    "updated_after": "runs.updated > :updated_after",
    "updated_before": "runs.updated < :updated_before",
    "held": "(runs.holder IS NOT NULL) = :held",
}
"""Conditions of the fields of a filter, see `more_of`. `outcome` has an index; `created` bounds the part of any."""
# SQLite's statistics do not know that most runs have ended
UNFINISHED = (
    "runs INDEXED BY runs_by_status"
    " WHERE runs.status IN ('running', 'parked', 'interrupted', 'enqueued', 'delayed', 'due')"
)


@cache
def listing(
    workflow: bool,
    status: bool,
    parent: bool,
    often: bool = False,
    after: bool = False,
    more: tuple[str, ...] = (),
    attribute: str = "",
    also: tuple[str, ...] = (),
    lately: str = "",
    order: str = "-created",
) -> str:
    """Return the query for a filter that has these fields. Each reads one index, in the order of the list.

    Args:
        workflow, status, parent, after: whether the filter has the field.
        often: whether most runs have the status, so that the index by workflow is the shorter way.
        more: names of the other conditions, see `more_of`.
        attribute: the condition on the search attribute whose index is read, or "".
        also: the conditions on other attributes.
        lately: the condition that reads few runs by the time of their end, which are then sorted; or "".
        order: see `RunFilter`. By `updated`, the index of ended runs is read unless an attribute or `lately` has few.
    """
    by_update = order.endswith("updated")
    created, start = "runs.created", _WITH_WORKFLOW if workflow else _RECORDS
    wanted = []
    if attribute:
        created = "a.created"
        start = f"{_COLUMNS}FROM attributes AS a CROSS JOIN runs ON runs.id = a.run{_JOURNAL}"
        start += f"{'CROSS' if workflow else 'LEFT'} JOIN definitions ON definitions.run = runs.id "
        wanted.append(attribute)
    if lately:
        created = "+runs.created"
        wanted.append(lately)
    if parent:
        wanted.append(f"{'+' if attribute or by_update else ''}runs.parent = :parent")
    if status:
        by_outcome = "outcome" in more and not parent and not attribute and not lately and not by_update
        often = often and not by_outcome
        by_status = (by_update or (not parent and not (workflow and often))) and not attribute and not lately
        wanted.append(f"{'' if by_status else '+'}runs.status = :status")
    if workflow:
        by_workflow = not parent and not attribute and not lately and not by_update and not (status and not often)
        wanted.append(f"{'' if by_workflow else '+'}definitions.workflow = :workflow")
        if by_workflow:
            created, start = "definitions.created", _OF_WORKFLOW
    wanted += [each.format("runs.id") for each in also]
    key, ascending = "runs.updated" if by_update else created, not order.startswith("-")
    if after:
        wanted.append(after_place(key, order))
    plus = "" if status and by_outcome else "+"
    wanted += [f"{plus if name == 'outcome' else ''}{MORE[name].format(created=created)}" for name in more]
    if by_update and not attribute and not lately:
        wanted.append(ENDED)  # as the last one: SQLite would look for it in place of the status
    where = f"WHERE {' AND '.join(wanted)} " if wanted else ""
    way = "ASC" if ascending else "DESC"
    return f"{start}{where}ORDER BY {key} {way}, runs.run_id {way} LIMIT :limit"


def more_of(filter: RunFilter) -> tuple[str, ...]:
    """Return the names of the conditions of `MORE` that a filter needs."""
    ended = filter.status is not None and filter.status.finished
    names = ("outcome" if ended and name == "state" else name for name in MORE if name != "outcome")
    return tuple(name for name in names if getattr(filter, "state" if name == "outcome" else name) is not None)


def after_place(key: str, order: str) -> str:
    """Return the condition on runs that come after a place in a list sorted by `key`."""
    later = "<" if order.startswith("-") else ">"
    return f"{key} {later}= :created AND ({key} {later} :created OR runs.run_id {later} :run_id)"


def load(connection: sqlite3.Connection, run_id: str) -> RunRecord | None:
    """Return the run with all its data, or None."""
    rows = fetch(connection, _BY_ID, (run_id,))
    if not rows:
        return None
    run, head, folded, *_ = row = rows[0]
    return _record(row, *read_data(connection, Place(run_id, run, head, folded)))


def runs(connection: sqlite3.Connection, filter: RunFilter) -> Sequence[RunRecord]:
    """Return the runs that match a filter that needs no `search`, without data."""
    text, values = question(filter)
    return listed_by_status(connection, filter, text, values)


def listed_by_status(
    connection: sqlite3.Connection, filter: RunFilter, text: str, values: Mapping[str, Any]
) -> list[RunRecord]:
    """Return the runs of a list, of each status in the rows that the filter means."""
    return first_of(
        filter,
        [
            [listed_row(row) for row in fetch(connection, text, {**values, "status": status})]
            for status in statuses_of(filter)
        ],
    )


def ended(filter: RunFilter) -> str | None:
    """Return the condition on `runs` that reads ended runs by the time of their update; None if the filter has none."""
    times = [MORE[name] for name in ("updated_after", "updated_before") if getattr(filter, name) is not None]
    if not times or filter.parent is not None or (filter.status is not None and not filter.status.finished):
        return None
    of_status = () if filter.status is None else ("runs.status = :status",)
    return " AND ".join((ENDED, *of_status, *times))


def question(
    filter: RunFilter, attribute: str = "", also: tuple[str, ...] = (), lately: str = ""
) -> tuple[str, dict[str, Any]]:
    """Return the statement of a list, and the values of its parameters; without those of attributes. See `listing`."""
    text = listing(
        filter.workflow is not None,
        filter.status is not None,
        filter.parent is not None,
        filter.status is RunStatus.SUCCEEDED,
        filter.after is not None,
        more_of(filter),
        attribute,
        also,
        lately,
        filter.order,
    )
    return text, values_of(filter)


def values_of(filter: RunFilter) -> dict[str, Any]:
    """Return the values of the parameters of a filter without attributes."""
    wanted: dict[str, Any] = {
        "workflow": filter.workflow,
        "status": None if filter.status is None else filter.status.value,
        "parent": filter.parent,
        "limit": -1 if filter.limit is None else max(filter.limit, 0),
    }
    if filter.after is not None:
        wanted["created"], wanted["run_id"] = filter.after
    fields = [name for name in MORE if name != "outcome"]
    return wanted | {name: getattr(filter, name) for name in fields if getattr(filter, name) is not None}


def listed(connection: sqlite3.Connection, where: str) -> list[RunRecord]:
    """Return the runs that a condition selects, without data."""
    return [listed_row(row) for row in fetch(connection, _RECORDS + where, ())]


def ready(connection: sqlite3.Connection, now: float, workflows: Sequence[str] | None) -> Sequence[RunRecord]:
    """Return the runs, of these workflows or of all, that a kernel can claim and resume, without data."""
    text, wanted = READY if workflows is None else READY_OF_WORKFLOWS, {"now": now, "workflows": json.dumps(workflows)}
    rows = fetch(connection, text, wanted)
    if ids := queues.listed(connection, now, workflows):
        some = f"{_RECORDS}WHERE runs.id IN (SELECT value FROM json_each(?))"
        rows += [row for row in fetch(connection, some, (json.dumps(ids),)) if workflows is None or row[4] in workflows]
    return [listed_row(row) for row in rows]


def history(connection: sqlite3.Connection, run_id: str, after: int | None, limit: int | None) -> Sequence[Transition]:
    """Return the run's transitions after `after`, oldest first, up to `limit`."""
    row = connection.execute("SELECT id, head FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    if row is None:
        return []
    run, head = row
    found: list[Transition] = []
    last, until = -1 if after is None else after, None
    while until != head and (limit is None or len(found) < limit):
        mark = None if limit is None else next_mark(connection, run, last)
        seq, until = (last, head) if mark is None else mark
        found += _transitions(connection, run_id, run, until, last)
        if mark is not None and (not found or found[-1].seq != seq):
            raise unreadable(run_id, f"the mark of transition {seq} in its journal is corrupt")
        last = seq
    return found[:limit]


def _transitions(connection: sqlite3.Connection, run_id: str, run: int, until: int, after: int) -> Iterator[Transition]:
    """Yield the transitions with a seq greater than `after`, up to the entry `until`."""
    last = -1
    for changes, (seq, state, status, at) in lines(connection, run_id, run, until, after):
        right = isinstance(seq, int) and isinstance(state, str) and isinstance(at, float) and status in _STATUSES
        if not right or seq < last:
            raise unreadable(run_id, f"its journal is corrupt at transition {seq}")
        if last < seq > after:  # otherwise a commit that made no transition, or the entry before the part
            yield Transition(seq=seq, state=state, status=_STATUSES[status], at=at, **changes._asdict())
        last = seq


def _record(row: tuple[Any, ...], data: dict[str, bytes], own: dict[str, bytes]) -> RunRecord:
    """Return the run in a row of `_RECORDS`. Raise SerializationError if the row is corrupt."""
    run, _, _, run_id, *columns, owner, line_seq, line_status, state, extra, queue, priority, key = row
    workflow, version, fingerprint, parent, created, updated, status, seq, holder, expires, token = columns
    right = all(isinstance(value, type) for value, type in zip((run_id, *columns), _TYPES, strict=True))
    lane = None if queue is None else Lane(queue, priority, key)
    right = right and (lane is None or [*map(type, lane)] == [str, int, str])
    if not right or status not in STATUSES:
        raise unreadable(_text(run_id), "its row is corrupt")
    if (owner, line_seq, line_status) != (run, seq, STATUSES[status].value) or not isinstance(state, str):
        raise unreadable(run_id, "its row and the newest entry of its journal differ")
    return unpacked_record(
        run_id, extra, workflow=workflow, version=version, fingerprint=fingerprint, state=state, seq=seq,
        status=STATUSES[status], data=data, parent=parent, created=created, updated=updated, holder=holder,
        expires=expires, token=token, own=own, lane=lane,
    )  # fmt: skip


def listed_row(row: tuple[Any, ...]) -> RunRecord:
    """Return the run in a row of a list. A corrupt run carries the problem as its error, and does not hide others."""
    try:
        return _record(row, _NO_DATA, _NO_DATA)
    except SerializationError as error:
        run_id, workflow = _text(row[3]), _text(row[4])
        status = STATUSES.get(row[10], RunStatus.INTERRUPTED)
        created = row[8] if isinstance(row[8], float) else 0.0
        return unreadable_record(run_id, workflow, status, error, created=created)


def _text(value: object) -> str:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)
