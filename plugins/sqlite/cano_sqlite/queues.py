"""Queues of submitted runs: which run begins next, and how many wait."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from typing import Any

from cano import Lane, RunRecord
from cano_durability.stores.lanes import DELAYED, DUE, IN_QUEUE, LISTED, QUEUED, STATUSES, Span, Turns, class_of

AT_ONCE = 1000
"""The most delayed runs that enter their queues in one claim."""

_QUEUED = f"FROM runs INDEXED BY runs_queued WHERE {IN_QUEUE}"
_ENTER = f"""
    UPDATE runs SET status = '{DUE}' WHERE id IN (
        SELECT id FROM runs INDEXED BY runs_delayed WHERE status = 'delayed' AND due <= ? ORDER BY due LIMIT {AT_ONCE}
    )"""
_LEAVE = "UPDATE runs SET status = ?, wake = due WHERE run_id = ?"
_PUT_BACK = f"""
    UPDATE runs SET status = iif(status = 'running', '{QUEUED}', '{DELAYED}'), due = wake, wake = NULL
    WHERE run_id = ? AND class IS NOT NULL AND seq = 0 AND (token = 0 OR updated < created) AND awaited IS NULL
        AND (status = 'running' OR (status = 'parked' AND wake IS NOT NULL))"""
_CLASS = f"""
    SELECT runs.class, definitions.workflow, definitions.version, definitions.fingerprint, runs.queue {{0}}
    CROSS JOIN definitions ON definitions.run = runs.id WHERE {IN_QUEUE} {{1}} ORDER BY runs.class LIMIT 1"""
_FIRST_CLASS, _NEXT_CLASS = (
    _CLASS.format("FROM runs INDEXED BY runs_queued", condition) for condition in ("", "AND class > ?")
)
_PRIORITY = f"SELECT priority {_QUEUED} AND class = ? AND priority < ? ORDER BY priority DESC LIMIT 1"
_KEY = f"SELECT key {_QUEUED} AND class = ? AND priority = ? AND key {{0}} ? ORDER BY key LIMIT 1"
_FIRST_KEY, _NEXT_KEY = (_KEY.format(sign) for sign in (">=", ">"))
_RUNS = f"SELECT run_id {_QUEUED} AND class = ? AND priority = ? AND key = ? ORDER BY id"
_SIZE = f"SELECT count(*) FROM (SELECT 1 {_QUEUED} AND class = ? LIMIT ?)"
_LARGER = f"SELECT count(*) FROM (SELECT 1 {_QUEUED} AND class = ? AND priority > ? LIMIT ?)"
_OLDER = f"""
    SELECT count(*) FROM (
        SELECT 1 {_QUEUED} AND class = ? AND priority = ? AND key = ?
            AND id < (SELECT id FROM runs AS own WHERE own.run_id = ?) LIMIT ?
    )"""
READY = f"""
    SELECT id FROM runs INDEXED BY runs_queued WHERE {IN_QUEUE} AND class = ?
    ORDER BY class, priority DESC, key, id LIMIT {LISTED}"""
READY_DELAYED = f"""
    SELECT id FROM runs INDEXED BY runs_delayed WHERE status = 'delayed' AND due <= ? ORDER BY due LIMIT {LISTED}"""


def enter(connection: sqlite3.Connection, now: float) -> None:
    """Let runs whose delay has passed enter their queues."""
    connection.execute(_ENTER, (now,))


def leave(connection: sqlite3.Connection, run_id: str, status: str) -> None:
    """Take a claimed run out of its queue, whose row has this status. In no queue, nothing changes."""
    known = STATUSES.get(status)
    if known is not None and known.value != status:
        connection.execute(_LEAVE, (known.value, run_id))


def put_back(connection: sqlite3.Connection, run_id: str) -> None:
    """Let a run that was released enter its queue, if it has not begun. See `RunRecord.in_queue`."""
    connection.execute(_PUT_BACK, (run_id,))


def classes(connection: sqlite3.Connection) -> Iterator[tuple[int, tuple[str, str, str], str]]:
    """Yield number, definition and queue of each class with runs in a queue."""
    row = connection.execute(_FIRST_CLASS).fetchone()
    while row is not None:
        number, *definition, queue = row
        yield number, tuple(definition), queue
        row = connection.execute(_NEXT_CLASS, (number,)).fetchone()


def chosen(
    connection: sqlite3.Connection,
    definitions: Collection[tuple[str, str, str]],
    most: int,
    queues: Collection[str] | None,
    turns: Turns,
) -> list[str]:
    """Return the ids of the runs that begin now, of these definitions and queues: at most `most`."""
    if most <= 0:
        return []
    if queues is None:
        numbers = [number for number, definition, _ in classes(connection) if definition in definitions]
    else:
        numbers = [class_of(*definition, queue) for definition in definitions for queue in queues]
    found: list[str] = []
    priority = 2**31
    while numbers and len(found) < most:
        next_ones = (connection.execute(_PRIORITY, (number, priority)).fetchone() for number in numbers)
        there = [row[0] for row in next_ones if row is not None]
        if not there:
            break
        priority = max(there)
        lanes = _lanes(connection, priority, turns.spans(priority, numbers), most - len(found))
        found += _in_turn(connection, priority, lanes, most - len(found), turns)
    return found


def _lanes(connection: sqlite3.Connection, priority: int, spans: Sequence[Span], most: int) -> list[tuple[int, str]]:
    """Return the first lanes with runs of this priority."""
    lanes: list[tuple[int, str]] = []
    for number, low, high in spans:
        statement, key = (_FIRST_KEY, "") if low is None else (_NEXT_KEY, low)
        while len(lanes) < most:
            row = connection.execute(statement, (number, priority, key)).fetchone()
            if row is None or (high is not None and row[0] > high):
                break
            statement, key = _NEXT_KEY, row[0]
            lanes.append((number, key))
    return lanes


def _in_turn(
    connection: sqlite3.Connection, priority: int, lanes: Sequence[tuple[int, str]], most: int, turns: Turns
) -> list[str]:
    """Return the ids of runs of these lanes, one of each in turn."""
    found: list[str] = []
    reading = [(lane, connection.execute(_RUNS, (lane[0], priority, lane[1]))) for lane in lanes]
    while reading and len(found) < most:
        for each in tuple(reading):
            lane, rows = each
            if (row := rows.fetchone()) is None:
                reading.remove(each)
            elif len(found) < most:
                found.append(row[0])
                turns.last[priority] = lane
    for _, rows in reading:
        rows.close()
    return found


def sizes(connection: sqlite3.Connection, definitions: Collection[tuple[str, str, str]], most: int) -> dict[str, int]:
    """Return how many runs of these definitions wait in each queue; of each definition, at most `most`."""
    found: dict[str, int] = {}
    for number, definition, queue in classes(connection):
        if definition in definitions:
            found[queue] = found.get(queue, 0) + connection.execute(_SIZE, (number, most)).fetchone()[0]
    return found


def before(connection: sqlite3.Connection, run: RunRecord, most: int) -> tuple[int, int]:
    """Return how many runs with a larger priority, and older ones with the same lane, wait before `run`."""
    queue, priority, key = run.lane or Lane()
    number = class_of(run.workflow, run.version, run.fingerprint, queue)
    (larger,) = connection.execute(_LARGER, (number, priority, most)).fetchone()
    (older,) = connection.execute(_OLDER, (number, priority, key, run.run_id, most)).fetchone()
    return larger, older


def listed(connection: sqlite3.Connection, now: float, workflows: Collection[str] | None) -> list[Any]:
    """Return the numbers of some runs of each definition and queue that can begin, of these workflows or of all."""
    found = [id for (id,) in connection.execute(READY_DELAYED, (now,))]
    for number, (workflow, *_), _ in classes(connection):
        if workflows is None or workflow in workflows:
            with closing(connection.execute(READY, (number,))) as rows:
                found += [id for (id,) in rows]
    return found
