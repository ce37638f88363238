"""Queries. Each is one statement, so that it sees one consistent state."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, LiteralString

from cano import ClaimedRun, Lane, RunFilter, RunRecord, RunStatus, SerializationError, Transition
from cano_durability.stores.lanes import IN_QUEUE, LISTED, STATUSES, first_of, statuses_of
from cano_msgspec.packing import unpacked_record, unreadable, unreadable_record
from psycopg import AsyncCursor

from cano_postgres.arrays import texts
from cano_postgres.connection import Connection
from cano_postgres.queues import CLASSES
from cano_postgres.snapshot import TAIL, Fold, merged, unpacked
from cano_postgres.work import Rows

AT_ONCE = 200
"""The most rows that are decoded in one turn of the event loop."""

_NO_DATA: dict[str, Any] = {}  # one for all runs of lists: the garbage collector counts each dict
_CUT = 200
"""Characters of a state after which its outcome is cut off."""
_ALL = 2**62
"""More entries than a history has."""

COLUMNS: LiteralString = """
    runs.run_id, runs.workflow, runs.version, runs.fingerprint, runs.parent, runs.created, runs.updated, runs.state,
    runs.status, runs.seq, runs.holder, runs.expires, runs.token, runs.extra, runs.queue, runs.priority, runs.key"""
_WITH_DATA: LiteralString = f"""
    SELECT {COLUMNS}, folded, head,
        ARRAY(SELECT own FROM snapshot WHERE run = runs.id ORDER BY place),
        ARRAY(SELECT key FROM snapshot WHERE run = runs.id ORDER BY place),
        ARRAY(SELECT content FROM snapshot WHERE run = runs.id ORDER BY place),
        ARRAY(SELECT part FROM snapshot WHERE run = runs.id ORDER BY place),
        ARRAY(SELECT line FROM journal WHERE run = runs.id AND line > folded ORDER BY line),
        ARRAY(SELECT packed FROM journal WHERE run = runs.id AND line > folded ORDER BY line)"""
_BY_ID: LiteralString = f"{_WITH_DATA} FROM runs WHERE run_id = %s"
CLAIMED: LiteralString = f"""
    {_WITH_DATA}, EXISTS (SELECT FROM signals WHERE signals.run_id = runs.run_id AND NOT consumed)
    FROM runs WHERE id = ANY(current_setting('cano.claimed')::bigint[])"""
_NAMES: LiteralString = """
        WITH RECURSIVE names (name) AS (
            SELECT min(workflow) FROM runs WHERE {0}
            UNION ALL
            SELECT (SELECT min(workflow) FROM runs WHERE {0} AND workflow > name) FROM names WHERE name IS NOT NULL
        )"""
_RUNNING: LiteralString = "status = 'running'"
_WAKING: LiteralString = "wake IS NOT NULL"
_OF_WORKFLOWS: LiteralString = "workflow = ANY(coalesce(%(workflows)s::text[], ARRAY({0} SELECT name FROM names)))"
# a condition on an expression does not choose the index: many runs are parked
READY: LiteralString = f"""
    SELECT {COLUMNS} FROM runs
    WHERE id = ANY(ARRAY(
        SELECT id FROM runs
        WHERE {_OF_WORKFLOWS.format(_NAMES.format(_WAKING))} AND wake <= %(now)s AND status || '' = 'parked'
        UNION ALL
        SELECT id FROM runs WHERE {_OF_WORKFLOWS.format(_NAMES.format(_RUNNING))} AND {_RUNNING}
        UNION ALL
        (SELECT id FROM runs WHERE status = 'delayed' AND due <= %(now)s ORDER BY due LIMIT {LISTED})
        UNION ALL
        (WITH RECURSIVE {CLASSES} SELECT waiting.id FROM classes, LATERAL (
            SELECT id FROM runs WHERE {IN_QUEUE} AND class = classes.class
            ORDER BY class, priority DESC, key, id LIMIT {LISTED}
        ) AS waiting)
    ))
        AND (%(workflows)s::text[] IS NULL OR workflow = ANY(%(workflows)s))
        AND (holder IS NULL OR expires IS NULL OR expires < %(now)s) ORDER BY id"""
# the entries after number `low` are those with a greater seq than `after`; a missing entry ends the search too early
HISTORY = """
    WITH RECURSIVE run AS MATERIALIZED (
        SELECT id, head, coalesce(discarded, 0) AS discarded, %(after)s::bigint AS after FROM runs
        WHERE run_id = %(run_id)s
    ),
    search (low, high) AS (
        SELECT discarded, CASE WHEN after < 0 THEN discarded + 1 ELSE head + 1 END FROM run
        UNION ALL
        SELECT
            CASE WHEN journal.seq > after THEN low ELSE journal.line END,
            CASE WHEN journal.seq > after THEN journal.line ELSE high END
        FROM search CROSS JOIN run JOIN journal ON journal.run = run.id AND journal.line = (low + high) / 2
        WHERE high - low > 1
    )
    SELECT run.head, place.low, place.high, journal.line, journal.seq, journal.state, journal.status, journal.at,
        journal.packed
    FROM run CROSS JOIN (SELECT max(low) AS low, min(high) AS high FROM search) AS place
    LEFT JOIN journal ON journal.run = run.id
        AND journal.line >= place.high AND journal.line < place.high + %(limit)s::bigint
    ORDER BY journal.line"""


MORE: dict[str, LiteralString] = {
    "state": "state = %(state)s",
    "outcome": "outcome = %(state)s",
    "error": "%(error)s IN (error, cause)",
    "created_after": "{created} > %(created_after)s",
    "created_before": "{created} < %(created_before)s",
    "updated_after": "updated > %(updated_after)s",
    "updated_before": "updated < %(updated_before)s",
    "held": "(holder IS NOT NULL) = %(held)s",
}
"""Conditions of the fields of a filter, see `more_of`. `outcome` has an index; `created` bounds the part of any."""


@cache
def listing(
    workflow: bool,
    status: bool,
    parent: bool,
    often: bool = False,
    after: bool = False,
    more: tuple[str, ...] = (),
    running: bool = False,
    also: tuple[LiteralString, ...] = (),
    lately: LiteralString = "",
    order: str = "-created",
) -> LiteralString:
    """Return the query for a filter that has these fields. Each reads one index, in the order of the list.

    Args:
        workflow, status, parent, after: whether the filter has the field.
        often: whether most runs have the status, so that the index by workflow is the shorter way.
        more: names of the other conditions, see `more_of`.
        running: whether the status is RUNNING, whose index is by workflow, too.
        also: the conditions on search attributes.
        lately: the condition that reads few runs by the time of their end, which are then sorted; or "".
        order: see `RunFilter`. By `updated`, the index of ended runs is read unless `lately` has few.
    """
    by_update = order.endswith("updated")
    by_outcome = "outcome" in more and not parent and not lately and not by_update
    often = often and not by_outcome
    wanted: list[LiteralString] = [lately] if lately else []
    each = running and status and not workflow and not parent  # one workflow after the other
    # a condition on an expression does not choose the index
    if parent:
        wanted.append("parent || '' = %(parent)s" if by_update else "parent = %(parent)s")
    if status:
        by_status = not parent and not lately and not (workflow and often)
        if by_update:
            wanted.append("status || '' = %(status)s" if lately else "status = %(status)s AND ended IS NOT NULL")
        elif by_status:
            wanted.append(_RUNNING if running else f"status = %(status)s AND NOT {_RUNNING}")
        else:
            wanted.append("status || '' = %(status)s")
    if each:
        wanted.append("workflow = name")
    if workflow:
        by_workflow = not parent and not lately and not by_update and (running or not (status and not often))
        wanted.append("workflow = %(workflow)s" if by_workflow else "workflow || '' = %(workflow)s")
    created: LiteralString = "(created - 0)" if lately else "created" if wanted else "(created + 0)"
    key: LiteralString = "ended" if by_update else created
    if after:
        wanted.append(after_place(key, order))
    wanted += [condition_of(name, order, by_outcome).format(created=created) for name in more]
    wanted += also
    where: LiteralString = f"WHERE {' AND '.join(wanted)} " if wanted else ""
    rows = f"{sorted_by(key, order)} LIMIT %(limit)s::bigint"
    if each:
        names = _NAMES.format(_RUNNING)
        return f"{names} SELECT {COLUMNS} FROM names, LATERAL (SELECT * FROM runs {where}{rows}) AS runs {rows}"
    return f"SELECT {COLUMNS} FROM runs {where}{rows}"


def more_of(filter: RunFilter) -> tuple[str, ...]:
    """Return the names of the conditions of `MORE` that a filter needs."""
    ended = filter.status is not None and filter.status.finished and len(filter.state or "") < _CUT
    names = ("outcome" if ended and name == "state" else name for name in MORE if name != "outcome")
    return tuple(name for name in names if getattr(filter, "state" if name == "outcome" else name) is not None)


def condition_of(name: str, order: str, by_outcome: bool) -> LiteralString:
    """Return a condition of `MORE`; of a list by `updated`, as its index has it. It chooses the index if it is to."""
    if name == "outcome" and not by_outcome:
        return "outcome || '' = %(state)s"
    return MORE[name].replace("updated ", "ended ") if order.endswith("updated") else MORE[name]


def sorted_by(key: LiteralString, order: str) -> LiteralString:
    """Return how a list that is sorted by `key` is sorted."""
    return f"ORDER BY {key} DESC, run_id DESC" if order.startswith("-") else f"ORDER BY {key}, run_id"


def after_place(key: LiteralString, order: str) -> LiteralString:
    """Return the condition on runs that come after a place in a list sorted by `key`."""
    later: LiteralString = "<" if order.startswith("-") else ">"
    return f"{key} {later}= %(created)s AND ({key} {later} %(created)s OR runs.run_id {later} %(run_id)s)"


async def load(connection: Connection, run_id: str) -> RunRecord | None:
    """Return the run with all its data, or None."""
    row = await (await connection.execute(_BY_ID, (run_id,), binary=True)).fetchone()
    if row is None:
        return None
    return _with_data(run_id, row)


def claimed(rows: Rows) -> list[ClaimedRun]:
    """Return the runs in rows of `CLAIMED`. A corrupt one has no record."""
    found = []
    for *row, signals in rows:
        run_id, token, record = row[0], row[12], None
        with suppress(SerializationError):
            record = _with_data(run_id, row)
        found.append(ClaimedRun(run_id, token, record, signals))
    return found


async def exists(connection: Connection, run_id: str) -> bool:
    """Return whether the run exists."""
    return await (await connection.execute("SELECT 1 FROM runs WHERE run_id = %s", (run_id,))).fetchone() is not None


async def runs(connection: Connection, filter: RunFilter) -> Sequence[RunRecord]:
    """Return the runs that match a filter that needs no `search`, without data."""
    lists = [await listed(connection, *question(filter, stored=stored)) for stored in statuses_of(filter)]
    return first_of(filter, lists)


def ended(filter: RunFilter) -> LiteralString | None:
    """Return the condition on `runs` that reads ended runs by the time of their update; None if the filter has none."""
    times: list[LiteralString] = []
    if filter.updated_after is not None:
        times.append("ended > %(updated_after)s")
    if filter.updated_before is not None:
        times.append("ended < %(updated_before)s")
    if not times or filter.parent is not None or (filter.status is not None and not filter.status.finished):
        return None
    of_status: LiteralString = "status IN ('cancelled', 'failed', 'succeeded')"
    return " AND ".join(("status = %(status)s" if filter.status is not None else of_status, *times))


def question(
    filter: RunFilter, also: tuple[LiteralString, ...] = (), lately: LiteralString = "", *, stored: str
) -> tuple[LiteralString, dict[str, Any]]:
    """Return the statement of a list of the rows with a status, and the values of its parameters without `also`'s."""
    text = listing(
        filter.workflow is not None,
        filter.status is not None,
        filter.parent is not None,
        filter.status is RunStatus.SUCCEEDED,
        filter.after is not None,
        more_of(filter),
        stored == RunStatus.RUNNING.value,
        also,
        lately,
        filter.order,
    )
    return text, values_of(filter) | {"status": stored or None}


def values_of(filter: RunFilter) -> dict[str, Any]:
    """Return the values of the parameters of a filter without attributes."""
    wanted: dict[str, Any] = {
        "workflow": filter.workflow,
        "status": None if filter.status is None else filter.status.value,
        "parent": filter.parent,
        "limit": None if filter.limit is None else max(filter.limit, 0),
    }
    if filter.after is not None:
        wanted["created"], wanted["run_id"] = filter.after
    fields = [name for name in MORE if name != "outcome"]
    return wanted | {name: getattr(filter, name) for name in fields if getattr(filter, name) is not None}


async def ready(connection: Connection, now: float, workflows: Collection[str] | None) -> Sequence[RunRecord]:
    """Return the runs, of these workflows or of all, that a kernel can claim and resume, without data."""
    return await listed(connection, READY, {"now": now, "workflows": None if workflows is None else texts(workflows)})


async def listed(connection: Connection, question: LiteralString, values: Mapping[str, Any]) -> list[RunRecord]:
    """Return the runs in the rows of `COLUMNS` that a query returns."""
    cursor = await connection.execute(question, values, binary=True)
    return [_listed(row) async for row in rows_of(cursor)]


async def rows_of(cursor: AsyncCursor[tuple[Any, ...]]) -> AsyncIterator[tuple[Any, ...]]:
    """Yield the rows of an answer, and let the event loop do other work in between: decoding many takes long."""
    while rows := await cursor.fetchmany(AT_ONCE):
        for row in rows:
            yield row
        if len(rows) == AT_ONCE:
            await asyncio.sleep(0)


async def history(connection: Connection, run_id: str, after: int | None, limit: int | None) -> Sequence[Transition]:
    """Return the run's transitions after `after`, oldest first, up to `limit`."""
    found: list[Transition] = []
    last = -1 if after is None else after
    while limit is None or len(found) < limit:
        most = _ALL if limit is None else limit - len(found)
        wanted = {"run_id": run_id, "after": last, "limit": most}
        rows = [row async for row in rows_of(await connection.execute(HISTORY, wanted, binary=True))]
        if not rows:
            return []
        head, low, high, *_ = rows[0]
        lines = [] if rows[0][3] is None else [row[3:] for row in rows]
        numbers = [line for line, *_ in lines]
        if high != low + 1:
            raise unreadable(run_id, f"its journal is broken after entry {low}")
        part = unpacked(run_id, low, min(low + most, head), numbers, [blob for *_, blob in lines])
        for (_, changes), (_, seq, state, status, at, _) in zip(part, lines, strict=True):
            if status not in STATUSES or seq < last:
                raise unreadable(run_id, f"its journal is corrupt at transition {seq}")
            if seq == last:
                continue  # a commit that made no transition
            found.append(Transition(seq=seq, state=state, status=STATUSES[status], at=at, **changes._asdict()))
            last = seq
            if len(found) % AT_ONCE == 0:
                await asyncio.sleep(0)
        if low + most >= head:
            break
    return found


async def fold(connection: Connection, run_id: str) -> Fold | None:
    """Return the work of compacting a run as it is now, or None if it does not exist."""
    row = await (await connection.execute(TAIL, (run_id,), binary=True)).fetchone()
    if row is None:
        return None
    run, head, folded, numbers, blobs = row
    return Fold(run_id, (run, head, folded, numbers, blobs))


def _with_data(run_id: str, row: Sequence[Any]) -> RunRecord:
    """Return the run in a row of `_WITH_DATA`. Raise SerializationError if it is corrupt."""
    *columns, folded, head, own, keys, contents, parts, numbers, blobs = row
    return _record(columns, *merged(run_id, (folded, head), (own, keys, contents, parts), (numbers, blobs)))


def _record(row: Sequence[Any], data: dict[str, bytes], own: dict[str, bytes]) -> RunRecord:
    """Return the run in a row of `COLUMNS`. Raise SerializationError if the row is corrupt."""
    (
        run_id, workflow, version, fingerprint, parent, created, updated, state, status, seq, holder, expires, token,
        extra, queue, priority, key,
    ) = row  # fmt: skip
    if status not in STATUSES:
        raise unreadable(run_id, "its row is corrupt")
    return unpacked_record(
        run_id, extra, workflow=workflow, version=version, fingerprint=fingerprint, state=state, seq=seq,
        status=STATUSES[status], data=data, parent=parent, created=created, updated=updated, holder=holder,
        expires=expires, token=token, own=own, lane=None if queue is None else Lane(queue, priority, key),
    )  # fmt: skip


def _listed(row: Sequence[Any]) -> RunRecord:
    """Return the run in a row of a list. A corrupt run carries the problem as its error, and does not hide others."""
    try:
        return _record(row, _NO_DATA, _NO_DATA)
    except SerializationError as error:
        run_id, workflow = row[0], row[1]
        status = STATUSES.get(row[8], RunStatus.INTERRUPTED)
        return unreadable_record(run_id, workflow, status, error, created=row[5])
