"""Search attributes: what commits write of them, and the lists and counts that read their index."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cano import AttributeRange, RunFilter, RunRecord, RunStatus
from cano_durability.stores.lanes import statuses_of

from cano_sqlite import reading
from cano_sqlite.snapshot import fetch

FEW = 2000
"""Number of runs below which a list reads all that have an attribute, or a status, in place of the newest runs."""

_REMOVE = "DELETE FROM attributes WHERE run = (SELECT id FROM runs WHERE run_id = ?)"
_ADD = """
    INSERT INTO attributes (run, name, value, created)
    SELECT id, ?, ?, created FROM runs WHERE run_id = ?"""
_ERROR = "error", "cause"
NEXT_NAME = "SELECT name, value FROM attributes WHERE (name, value) >= (?, ?) ORDER BY name, value LIMIT 1"


def write(connection: sqlite3.Connection, run_id: str, attributes: Mapping[str, bytes], *, new: bool) -> None:
    """Store all attributes of a run, in place of those that it had."""
    if not new:
        connection.execute(_REMOVE, (run_id,))
    connection.executemany(_ADD, [(name, value, run_id) for name, value in attributes.items()])


def names(connection: sqlite3.Connection) -> list[tuple[str, bytes]]:
    """Return the names of all attributes, each with the kinds of its values. The time does not grow with the runs."""
    found: list[tuple[str, bytes]] = []
    last: tuple[Any, bytes] = "", b""
    while rows := fetch(connection, NEXT_NAME, last):
        ((name, value),) = rows
        kind = bytes(value)[:1] if isinstance(value, bytes) else b""
        if isinstance(name, str) and kind:
            found.append((name, kind))
        last = name, bytes([kind[0] + 1]) if kind and kind < b"\xff" else bytes(value) + b"\0"
    return found


class Search(NamedTuple):
    """The way in which a list or a count finds its runs.

    Attributes:
        first: number of the attribute whose index is read; None for another index.
        values: the values of the statement's parameters.
        also: the conditions on the other attributes, with `{0}` for the run's number.
        condition: the condition on the first attribute.
        lately: the condition that reads few runs by the time of their end; "" for another index.
    """

    first: int | None
    values: dict[str, Any]
    also: tuple[str, ...] = ()
    condition: str = ""
    lately: str = ""


def search(connection: sqlite3.Connection, filter: RunFilter, *, ordered: bool = True) -> Search | None:
    """Return the shortest way to the runs with these attributes; None if no run can have them.

    If many runs have each of them, an index is read in the order of the list, unless the runs need not be `ordered`.
    """
    attributes = list((filter.attributes or {}).items())
    values, conditions = dict[str, Any](), list[str]()
    for number, (name, ranges) in enumerate(attributes):
        if not ranges:
            return None
        conditions.append(_condition(number, name, ranges, values))
    counts = [_few(connection, f"attributes AS a WHERE {each}", values) for each in conditions]
    first = min(range(len(counts)), key=counts.__getitem__, default=None)
    lately = ""
    if first is None or counts[first] >= FEW:
        lately = _failed(connection, filter) or (_rest_of if filter.by_update else _lately)(connection, filter)
    if lately or (filter.by_update and first is not None and counts[first] >= FEW):
        first = None
    elif first is not None and counts[first] >= FEW:
        points = (number for number, (_, ranges) in enumerate(attributes) if len(ranges) == 1 and ranges[0].point)
        first = next(points, None if ordered else first)
        status = filter.status
        its = "runs WHERE status = :status" + (" AND outcome = :state" if "outcome" in reading.more_of(filter) else "")
        if filter.parent is not None or (status is not None and _few(connection, its, reading.values_of(filter)) < FEW):
            first = None
    also = tuple(
        f"EXISTS (SELECT 1 FROM attributes AS b WHERE b.run = {{0}} AND {each.replace('a.', 'b.')})"
        for number, each in enumerate(conditions)
        if number != first
    )
    return Search(first, values, also, "" if first is None else conditions[first], lately)


def _failed(connection: sqlite3.Connection, filter: RunFilter) -> str:
    """Return the condition that reads the runs with the error, if they are few; otherwise ""."""
    values = {"error": filter.error}
    if filter.error is None or sum(_few(connection, f"runs WHERE {each} = :error", values) for each in _ERROR) >= FEW:
        return ""
    return f"runs.id IN ({' UNION ALL '.join(f'SELECT id FROM runs WHERE {each} = :error' for each in _ERROR)})"


def _rest_of(connection: sqlite3.Connection, filter: RunFilter) -> str:
    """Return the condition that reads the children of the parent, or the runs of the state, if few; or ""."""
    values, ways = reading.values_of(filter), list[str]()
    if filter.parent is not None:
        ways.append("parent = :parent")
    if filter.state is not None:
        ways.append("status = :status AND outcome = :state")
    few = next((each for each in ways if _few(connection, f"runs WHERE {each}", values) < FEW), None)
    return "" if few is None else f"runs.id IN (SELECT id FROM runs WHERE {few})"


def _lately(connection: sqlite3.Connection, filter: RunFilter) -> str:
    """Return the condition that reads the runs by the time of their end, if that is the shorter way; otherwise ""."""
    condition = reading.ended(filter)
    if condition is None:
        return ""
    if _few(connection, f"runs WHERE {condition}", reading.values_of(filter)) >= FEW:
        return ""
    found = f"SELECT id FROM runs WHERE {condition}"
    if filter.status is None:  # the unfinished ones, of any time
        if _few(connection, reading.UNFINISHED, {}) >= FEW:
            return ""
        found += f" UNION ALL SELECT id FROM {reading.UNFINISHED}"
    return f"runs.id IN ({found})"


def _few(connection: sqlite3.Connection, where: str, values: Mapping[str, Any]) -> int:
    """Return the number of rows, at most `FEW`."""
    (count,) = connection.execute(f"SELECT count(*) FROM (SELECT 1 FROM {where} LIMIT {FEW})", values).fetchone()
    return int(count)


def _condition(number: int, name: str, ranges: Sequence[AttributeRange], values: dict[str, Any]) -> str:
    """Return the condition on one attribute, in the table `a`, and add the values of its parameters."""
    values[f"name{number}"] = name
    points = [each.point for each in ranges]
    for place, (low, high) in enumerate(ranges):
        values[f"low{number}_{place}"] = low
        if points[place] is None:
            values[f"high{number}_{place}"] = high
    parts = [
        f"a.value = :low{number}_{place}"
        if point is not None
        else f"a.value >= :low{number}_{place} AND a.value < :high{number}_{place}"
        for place, point in enumerate(points)
    ]
    if len(parts) > 1 and None not in points:
        parts = [f"a.value IN ({', '.join(f':low{number}_{place}' for place in range(len(points)))})"]
    return f"a.name = :name{number} AND ({' OR '.join(f'({each})' for each in parts) if len(parts) > 1 else parts[0]})"


def runs(connection: sqlite3.Connection, filter: RunFilter) -> Sequence[RunRecord]:
    """Return the runs that match a filter with attributes or times of update, without data."""
    found = search(connection, filter)
    if found is None:
        return []
    question, wanted = reading.question(filter, found.condition, found.also, found.lately)
    return reading.listed_by_status(connection, filter, question, {**wanted, **found.values})


def count(connection: sqlite3.Connection, filter: RunFilter) -> int:
    """Return the number of matching runs. Only the tables are read that conditions need."""
    found = search(connection, filter, ordered=False)
    if found is None:
        return 0
    question, wanted = counting(filter, found)
    values = {**wanted, **found.values}
    numbers = [
        connection.execute(question, {**values, "status": status}).fetchone()[0] for status in statuses_of(filter)
    ]
    return sum(numbers) if filter.limit is None else min(sum(numbers), max(filter.limit, 0))


def counting(filter: RunFilter, found: Search) -> tuple[str, dict[str, Any]]:
    """Return the statement that counts runs, and the values of the filter's parameters."""
    wanted = reading.values_of(filter)
    if (of_ends := _of_times(filter) or _of_error(filter)) is not None:
        return of_ends, wanted
    names = reading.more_of(filter)
    often = filter.status is RunStatus.SUCCEEDED
    by_runs = filter.parent is not None or (
        filter.status is not None and not (often and filter.workflow and "outcome" not in names)
    )
    if found.first is not None:
        tables, run, created = "attributes AS a", "a.run", "a.created"
    elif filter.workflow is not None and not by_runs and not found.lately:
        tables, run, created = "definitions", "definitions.run", "definitions.created"
    else:
        tables, run, created = "runs", "runs.id", "+runs.created" if found.lately else "runs.created"
    where = [each for each in (found.condition, found.lately) if each]
    of_runs = [f"runs.{name} = :{name}" for name in ("status", "parent") if getattr(filter, name) is not None]
    if filter.after is not None:
        of_runs.append(reading.after_place("runs.updated" if filter.by_update else created, filter.order))
    more = [reading.MORE[name].format(created=created) for name in names]
    if found.lately:
        of_runs = [f"+{each}" for each in of_runs]
    if tables != "runs" and (of_runs or any("runs." in each or "journal." in each for each in more)):
        tables += f" CROSS JOIN runs ON runs.id = {run}"
        of_runs = [each.replace("runs.", "+runs.", 1) if each.startswith("runs.") else each for each in of_runs]
        more = [f"+{each}" if each.startswith("runs.outcome") else each for each in more]
    if filter.workflow is not None:
        mark = "" if tables.startswith("definitions") else "+"
        if mark:
            tables += f" CROSS JOIN definitions ON definitions.run = {run}"
        where.append(f"{mark}definitions.workflow = :workflow")
    if "state" in names:
        tables += " CROSS JOIN journal ON journal.id = runs.head"
    where += [*of_runs, *more, *(each.format(run) for each in found.also)]
    condition = f" WHERE {' AND '.join(where)}" if where else ""
    if filter.limit is None:
        return f"SELECT count(*) FROM {tables}{condition}", wanted
    return f"SELECT count(*) FROM (SELECT 1 FROM {tables}{condition} LIMIT :limit)", wanted


def _of_times(filter: RunFilter) -> str | None:
    """Return the statement that counts runs by times of their update, and at most by status; None for other filters."""
    condition = reading.ended(filter)
    if condition is None or filter._replace(updated_after=None, updated_before=None) != RunFilter(status=filter.status):
        return None
    times = [reading.MORE[name] for name in reading.more_of(filter)]
    parts = [f"runs WHERE {condition}"]
    if filter.status is None:
        parts.append(" AND ".join((reading.UNFINISHED, *times)))
    return f"SELECT {' + '.join(f'(SELECT count(*) FROM {each})' for each in parts)}"


def _of_error(filter: RunFilter) -> str | None:
    """Return the statement that counts failed runs by their error alone; None for other filters."""
    if filter.error is None or filter != RunFilter(status=RunStatus.FAILED, error=filter.error):
        return None
    parts = (f"SELECT count(*) FROM runs WHERE {each} = :error" for each in _ERROR)  # which differ in each run
    return f"SELECT {' + '.join(f'({each})' for each in parts)}"
