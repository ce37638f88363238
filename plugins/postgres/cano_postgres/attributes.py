"""Search attributes: what commits write of them, and the lists and counts that read their index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString, NamedTuple

from cano import AttributeRange, RunFilter, RunRecord, RunStatus
from cano_durability.stores.lanes import first_of, statuses_of

from cano_postgres import reading
from cano_postgres.arrays import blobs, texts
from cano_postgres.connection import Connection
from cano_postgres.work import Statement

FEW = 2000
"""Number of runs below which a list reads all that have an attribute, or a status, in place of the newest runs."""

UNFINISHED: tuple[LiteralString, ...] = (
    "status = 'running'",
    "status IN ('parked', 'interrupted', 'enqueued', 'delayed', 'due') AND NOT status = 'running'",
)
"""The conditions of the runs that have not ended, each with an index."""

# after the commit in the same transaction: `head` is its entry, unless it was refused
_WRITE = """
    WITH made AS (
        SELECT runs.id, runs.created FROM runs
        JOIN journal ON journal.run = runs.id AND journal.line = runs.head AND journal.mark = %s
        WHERE runs.run_id = %s
    ), given AS (
        SELECT * FROM unnest(%s::text[], %s::bytea[]) AS given (name, value)
    ), gone AS (
        DELETE FROM attributes USING made WHERE attributes.run = made.id AND name NOT IN (SELECT name FROM given)
    )
    INSERT INTO attributes (run, name, value, created)
    SELECT made.id, given.name, given.value, made.created FROM made, given
    ON CONFLICT (run, name) DO UPDATE SET value = excluded.value WHERE attributes.value <> excluded.value"""
NAMES = """
    WITH RECURSIVE found (name, value) AS (
        (SELECT name, value FROM attributes ORDER BY name, value LIMIT 1)
        UNION ALL
        SELECT next.name, next.value FROM found, LATERAL (
            SELECT attributes.name, attributes.value FROM attributes
            WHERE (attributes.name, attributes.value)
                >= (found.name, set_byte(substring(found.value FOR 1), 0, get_byte(found.value, 0) + 1))
            ORDER BY attributes.name, attributes.value LIMIT 1
        ) AS next
    )
    SELECT name, substring(value FOR 1) FROM found"""


def written(run_id: str, mark: int, attributes: Mapping[str, bytes]) -> Statement:
    """Return the statement that stores all attributes of a run, in place of those that it had, after its commit.

    Args:
        run_id: the run.
        mark: the mark of the commit's entry in the journal.
        attributes: the attributes.
    """
    return _WRITE, (mark, run_id, texts(attributes), blobs(attributes.values()))


async def names(connection: Connection) -> list[tuple[str, bytes]]:
    """Return the names of all attributes, each with the kinds of its values. The time does not grow with the runs."""
    return [(name, kind) for name, kind in await (await connection.execute(NAMES, binary=True)).fetchall()]


class Search(NamedTuple):
    """The way in which a list or a count finds its runs.

    Attributes:
        values: the values of the statement's parameters.
        condition: the condition on the attribute whose index is read; "" for another index.
        also: the conditions on the other attributes.
        lately: the condition that reads runs by the time of their end; "" for another index.
    """

    values: dict[str, Any]
    condition: LiteralString = ""
    also: tuple[LiteralString, ...] = ()
    lately: LiteralString = ""


async def search(connection: Connection, filter: RunFilter, *, ordered: bool = True) -> Search | None:
    """Return the shortest way to the runs with these attributes; None if no run can have them.

    If many runs have each of them, an index is read in the order of the list, unless the runs need not be `ordered`.
    """
    attributes = list((filter.attributes or {}).items())
    values, conditions, counts = dict[str, Any](), list[tuple[LiteralString, LiteralString]](), list[int]()
    for number, (name, ranges) in enumerate(attributes):
        if not ranges:
            return None
        conditions.append(_condition(number, name, ranges, values))
        counts.append(await _few(connection, few(" AND ".join(conditions[-1])), values))
    first = min(range(len(counts)), key=counts.__getitem__, default=None)
    lately: LiteralString = ""
    if first is None or counts[first] >= FEW:
        lately = await _failed(connection, filter)
        lately = lately or await (_rest_of if filter.by_update else _lately)(connection, filter)
    if lately or (filter.by_update and first is not None and counts[first] >= FEW):
        first = None
    elif first is not None and counts[first] >= FEW:
        points = (number for number, (_, ranges) in enumerate(attributes) if len(ranges) == 1 and ranges[0].point)
        first = next(points, None if ordered else first)
        if filter.parent is not None:
            first = None
        elif filter.status is not None:
            status: LiteralString = "status = %(s)s AND NOT status = 'running'"
            if filter.status is RunStatus.RUNNING:
                status = "status = 'running' AND status = %(s)s"
            if "outcome" in reading.more_of(filter):
                status += f" AND {reading.MORE['outcome']}"
            if await _few(connection, few(status, "runs"), {"s": filter.status.value, "state": filter.state}) < FEW:
                first = None
    also = tuple(
        # a query of its own for each run: as a join, it might read the whole table
        f"coalesce((SELECT {of_value} FROM attributes AS a WHERE a.run = runs.id AND {of_name}), false)"
        for number, (of_name, of_value) in enumerate(conditions)
        if number != first
    )
    return Search(values, "" if first is None else " AND ".join(conditions[first]), also, lately)


async def _failed(connection: Connection, filter: RunFilter) -> LiteralString:
    """Return the condition that reads the runs with the error, if they are few; otherwise ""."""
    if filter.error is None:
        return ""
    counts = [await _few(connection, few(each, "runs"), {"error": filter.error}) for each in _ERROR]
    return _of_ids(*_ERROR) if sum(counts) < FEW else ""


async def _rest_of(connection: Connection, filter: RunFilter) -> LiteralString:
    """Return the condition that reads the children of the parent, or the runs of the state, if few; or ""."""
    ways = [_CHILD] if filter.parent is not None else []
    if "outcome" in reading.more_of(filter):
        ways.append(_OUTCOME)
    for each in ways:
        if await _few(connection, few(each, "runs"), reading.values_of(filter)) < FEW:
            return _of_ids(each)
    return ""


def _of_ids(*conditions: LiteralString) -> LiteralString:
    parts: list[LiteralString] = [f"SELECT id FROM runs WHERE {each}" for each in conditions]
    return f"runs.id = ANY(ARRAY({' UNION ALL '.join(parts)}))"


async def _lately(connection: Connection, filter: RunFilter) -> LiteralString:
    """Return the condition that reads the runs by the time of their end, if that is the shorter way; otherwise ""."""
    condition = reading.ended(filter)
    if condition is None:
        return ""
    if await _few(connection, few(condition, "runs"), reading.values_of(filter)) >= FEW:
        return ""
    found: LiteralString = f"SELECT id FROM runs WHERE {condition}"
    if filter.status is None:  # the unfinished ones, of any time
        others = [few(each, "runs") for each in UNFINISHED]
        if sum([await _few(connection, each, {}) for each in others]) >= FEW:
            return ""
        found = " UNION ALL ".join((found, *(f"SELECT id FROM runs WHERE {each}" for each in UNFINISHED)))
    return f"runs.id = ANY(ARRAY({found}))"


def few(where: LiteralString, table: LiteralString = "attributes AS a") -> LiteralString:
    """Return the statement that counts rows, at most `FEW`."""
    return f"SELECT count(*) FROM (SELECT FROM {table} WHERE {where} LIMIT 2000) AS found"


async def _few(connection: Connection, question: LiteralString, values: Mapping[str, Any]) -> int:
    used = {name: value for name, value in values.items() if f"({name})" in question}
    row = await (await connection.execute(question, used, binary=True)).fetchone()
    return 0 if row is None else int(row[0])


def _condition(
    number: int, name: str, ranges: Sequence[AttributeRange], values: dict[str, Any]
) -> tuple[LiteralString, LiteralString]:
    """Return the conditions on name and value of one attribute, and add the values of its parameters."""
    values[f"name{number}"] = name
    parts: list[Any] = []
    for place, each in enumerate(ranges):
        low, high = f"low{number}_{place}", f"high{number}_{place}"
        values[low] = each.low
        if each.point is None:
            values[high] = each.high
            parts.append(f"a.value >= %({low})s AND a.value < %({high})s")
        else:
            parts.append(f"a.value = %({low})s")
    of_value = parts[0] if len(parts) == 1 else f"({' OR '.join(f'({each})' for each in parts)})"
    if len(parts) > 1 and all(each.point for each in ranges):
        of_value = f"a.value IN ({', '.join(f'%(low{number}_{place})s' for place in range(len(ranges)))})"
    name_is: Any = f"a.name = %(name{number})s"
    return name_is, of_value


def question(filter: RunFilter, found: Search, stored: str) -> tuple[LiteralString, dict[str, Any]]:
    """Return the statement of a list of the rows with a status, and the values of its parameters."""
    if not found.condition:
        text, values = reading.question(filter, found.also, found.lately, stored=stored)
        return text, values | found.values
    where = " AND ".join(_where(filter, found, "a.created", stored))
    text = f"SELECT {reading.COLUMNS} FROM {_JOINED} WHERE {where} "
    text += reading.sorted_by("runs.ended" if filter.by_update else "a.created", filter.order)
    text += " LIMIT %(limit)s::bigint"
    return text, reading.values_of(filter) | found.values | {"status": stored or None}


_CHILD: LiteralString = "parent = %(parent)s"
_OUTCOME: LiteralString = "status = %(status)s AND outcome = %(state)s"
_ERROR: tuple[LiteralString, ...] = (
    "status = 'failed' AND error = %(error)s",
    "status = 'failed' AND cause = %(error)s",
)
# for each attribute that is read, its run: a join might read all runs
_JOINED: LiteralString = (
    "attributes AS a CROSS JOIN LATERAL (SELECT * FROM runs WHERE runs.id = a.run OFFSET 0) AS runs"
)


def _where(filter: RunFilter, found: Search, created: LiteralString, stored: str) -> list[LiteralString]:
    """Return the conditions of a filter, those on attributes included."""
    where: list[LiteralString] = [each for each in (found.condition, found.lately) if each]
    if filter.status is not None and found.lately:
        where.append("runs.status || '' = %(status)s")
    elif stored == RunStatus.RUNNING.value:
        where.append("runs.status = 'running'")
    elif filter.status is not None:
        where.append("runs.status = %(status)s AND NOT runs.status = 'running'")
    if filter.workflow is not None:
        where.append("runs.workflow || '' = %(workflow)s" if found.lately else "runs.workflow = %(workflow)s")
    if filter.parent is not None:
        where.append("runs.parent = %(parent)s")
    if filter.after is not None:
        where.append(reading.after_place("runs.ended" if filter.by_update else created, filter.order))
    by_outcome = not found.lately and not found.condition and filter.parent is None
    conditions = [reading.condition_of(name, "created", by_outcome) for name in reading.more_of(filter)]
    return [*where, *(each.format(created=created) for each in conditions), *found.also]


def counting(filter: RunFilter, found: Search, stored: str) -> tuple[LiteralString, dict[str, Any]]:
    """Return the statement that counts the rows with a status, and the values of its parameters."""
    if (text := _of_times(filter) or _of_error(filter)) is not None:
        return text, reading.values_of(filter)
    attribute = bool(found.condition)
    where = _where(filter, found, "a.created" if attribute else "runs.created", stored)
    joined = (
        _JOINED
        if any("runs." in each or "updated" in each or "state" in each or "error" in each for each in where)
        else None
    )
    tables = (joined or "attributes AS a") if attribute else "runs"
    condition = f" WHERE {' AND '.join(where)}" if where else ""
    text = f"SELECT count(*) FROM {tables}{condition}"
    if filter.limit is not None:
        text = f"SELECT count(*) FROM (SELECT FROM {tables}{condition} LIMIT %(limit)s::bigint) AS found"
    return text, reading.values_of(filter) | found.values | {"status": stored or None}


def _of_times(filter: RunFilter) -> LiteralString | None:
    """Return the statement that counts runs by times of their update, and at most by status; None for other filters."""
    condition = reading.ended(filter)
    if condition is None or filter._replace(updated_after=None, updated_before=None) != RunFilter(status=filter.status):
        return None
    times = [reading.MORE[name] for name in reading.more_of(filter)]
    others = [] if filter.status is not None else [" AND ".join((each, *times)) for each in UNFINISHED]
    return f"SELECT {' + '.join(f'(SELECT count(*) FROM runs WHERE {each})' for each in (condition, *others))}"


def _of_error(filter: RunFilter) -> LiteralString | None:
    """Return the statement that counts failed runs by their error alone; None for other filters."""
    if filter.error is None or filter != RunFilter(status=RunStatus.FAILED, error=filter.error):
        return None
    return f"SELECT {' + '.join(f'(SELECT count(*) FROM runs WHERE {each})' for each in _ERROR)}"  # no run has both


async def runs(connection: Connection, filter: RunFilter) -> Sequence[RunRecord]:
    """Return the runs that match a filter with attributes or times of update, without data."""
    found = await search(connection, filter)
    if found is None:
        return []
    texts = [_used(*question(filter, found, stored)) for stored in statuses_of(filter)]
    return first_of(filter, [await reading.listed(connection, *each) for each in texts])


async def count(connection: Connection, filter: RunFilter) -> int:
    """Return the number of matching runs."""
    found = await search(connection, filter, ordered=False)
    if found is None:
        return 0
    number = 0
    for stored in statuses_of(filter):
        text, values = _used(*counting(filter, found, stored))
        row = await (await connection.execute(text, values, binary=True)).fetchone()
        number += 0 if row is None else int(row[0])
    return number if filter.limit is None else min(number, max(filter.limit, 0))


def _used(text: LiteralString, values: Mapping[str, Any]) -> tuple[LiteralString, dict[str, Any]]:
    """Return a statement with the values of the parameters that it has."""
    return text, {name: value for name, value in values.items() if f"%({name})s" in text}
