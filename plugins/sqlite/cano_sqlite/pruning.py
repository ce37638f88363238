"""Finds and deletes the finished runs that a retention does not keep, many at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from typing import Any

from cano import AuditEntry, Retention, RunRecord

from cano_sqlite import audit
from cano_sqlite.news import note
from cano_sqlite.reading import listed
from cano_sqlite.snapshot import fetch, fold
from cano_sqlite.tails import Tails

_HAS_ENDED = "status IN ('succeeded', 'failed', 'cancelled')"
_LATER = "{0} >= :created AND ({0} > :created OR runs.run_id > :run_id)"
AGED = " UNION ALL ".join(
    f"""
    SELECT * FROM (
        SELECT created, run_id, id FROM runs
        WHERE status = '{status}' AND created <= :before AND :now - updated > :age AND {_LATER.format("created")}
        ORDER BY created, run_id LIMIT :limit
    )"""
    for status in ("succeeded", "failed", "cancelled")
)
WORKFLOWS = """
    WITH RECURSIVE names (name) AS (
        SELECT min(workflow) FROM definitions
        UNION ALL
        SELECT (SELECT min(workflow) FROM definitions WHERE workflow > name) FROM names WHERE name IS NOT NULL
    )
    SELECT name FROM names WHERE name IS NOT NULL"""
_OF_WORKFLOW = f"""
    FROM definitions CROSS JOIN runs ON runs.id = definitions.run
    WHERE definitions.workflow = :workflow AND +runs.{_HAS_ENDED}"""
# the index alone answers this, without a look at the runs
MANY = "SELECT 1 FROM definitions WHERE workflow = :workflow LIMIT 1 OFFSET :keep"
FIRST_TOO_MANY = f"""
    SELECT definitions.created, runs.run_id {_OF_WORKFLOW}
    ORDER BY definitions.created DESC, runs.run_id DESC LIMIT 1 OFFSET :keep"""
TOO_MANY = f"""
    SELECT definitions.created, runs.run_id, runs.id {_OF_WORKFLOW} AND definitions.created <= :newest
        AND (definitions.created < :newest OR runs.run_id <= :newest_id) AND {_LATER.format("definitions.created")}
    ORDER BY definitions.created, runs.run_id LIMIT :limit"""
_CAN_GO = f"""
    SELECT id FROM runs
    WHERE run_id = ? AND {_HAS_ENDED} AND (holder IS NULL OR expires IS NULL OR expires < ?)"""
_FORGET_LINES = """
    WITH RECURSIVE chain (id, prev) AS (
        SELECT id, prev FROM journal WHERE id IN (SELECT head FROM runs WHERE id IN ({runs})) AND run IN ({runs})
        UNION ALL
        SELECT older.id, older.prev FROM chain CROSS JOIN journal AS older
        WHERE older.id = chain.prev AND chain.prev < chain.id
    )
    DELETE FROM journal
    WHERE id IN (SELECT id FROM chain) AND run IN ({runs}) AND id < (SELECT max(id) FROM journal)"""
# the newest entry of the table is emptied, not deleted: if its id were reused, a process could mistake what it
# remembers of one run for another's
_EMPTY_LINE = """
    UPDATE journal SET run = 0, prev = 0, seq = 0, state = '', status = '', at = 0, extra = NULL, packed = x''
    WHERE id = (SELECT max(id) FROM journal) AND run IN ({runs})"""
_MARK_BEFORE = "SELECT id, seq FROM marks WHERE run = ? AND seq <= ? ORDER BY seq DESC LIMIT 1"
# the transition whose entry, or whose last commit without a transition, has the mark
TRANSITION = """
    WITH RECURSIVE chain (id, prev) AS (
        SELECT id, prev FROM journal WHERE id = :mark AND run = :run
        UNION ALL
        SELECT older.id, older.prev FROM chain CROSS JOIN journal AS older
        WHERE older.id = chain.prev AND chain.prev < chain.id AND older.seq = :seq
    )
    SELECT min(id) FROM chain HAVING count(*)"""
DISCARD_OLDER = """
    WITH RECURSIVE chain (id, prev) AS (
        SELECT id, prev FROM journal WHERE id = :first
        UNION ALL
        SELECT older.id, older.prev FROM chain CROSS JOIN journal AS older
        WHERE older.id = chain.prev AND chain.prev < chain.id
    )
    DELETE FROM journal WHERE id IN (SELECT id FROM chain) AND id < :first AND run = :run"""
_SLACK = 1.0
"""Seconds that a run may have been created after its end, by a clock that was set back."""


def expired(
    connection: sqlite3.Connection, retention: Retention, now: float, limit: int, after: tuple[float, str] | None
) -> list[RunRecord]:
    """Return finished runs that `retention` does not keep, without data, oldest first."""
    age, every = retention.max_seconds, retention.on_terminal == "delete"
    created, run_id = after or (float("-inf"), "")
    values: dict[str, Any] = {"now": now, "limit": limit, "created": created, "run_id": run_id}
    places: set[tuple[Any, ...]] = set()
    if every or age is not None:
        before = float("inf") if every or age is None else now - age + _SLACK
        aged = {**values, "before": before, "age": float("-inf") if every else age}
        places.update(fetch(connection, AGED, aged))
    if retention.keep_last is not None and not every:
        for (workflow,) in connection.execute(WORKFLOWS).fetchall():
            values |= {"workflow": workflow, "keep": retention.keep_last}
            first = fetch(connection, FIRST_TOO_MANY, values) if fetch(connection, MANY, values) else ()
            for newest, newest_id in first:
                too_many = {**values, "newest": newest, "newest_id": newest_id}
                places.update(fetch(connection, TOO_MANY, too_many))
    ids = ", ".join(str(id) for _, _, id in sorted(places, key=_place)[:limit])
    return sorted(listed(connection, f"WHERE runs.id IN ({ids})"), key=lambda run: run.place)


def _place(row: tuple[Any, ...]) -> tuple[float, str]:
    """Return the place of a row that begins with time and id; a corrupt one comes first."""
    created, run_id, _ = row
    return created if isinstance(created, float) else 0.0, str(run_id)


def delete_finished(
    connection: sqlite3.Connection, run_ids: Sequence[str], now: float, tails: Tails, entry: AuditEntry | None
) -> list[str]:
    """Delete those of these runs that have finished and have no lease; return their ids."""
    gone: dict[int, str] = {}
    for run_id in run_ids:
        for (id,) in connection.execute(_CAN_GO, (run_id, now)).fetchall():
            tails.take(run_id)
            gone[id] = run_id
    forget(connection, gone)
    if entry is not None:
        audit.add(connection, [entry._replace(run_id=run_id) for run_id in gone.values()])
    return list(gone.values())


def forget(connection: sqlite3.Connection, ids: Collection[int]) -> None:
    """Delete the runs with these numbers, and all that belongs to them."""
    runs = ", ".join(map(str, ids))
    connection.execute(f"DELETE FROM signals WHERE run_id IN (SELECT run_id FROM runs WHERE id IN ({runs}))")
    connection.execute(_FORGET_LINES.format(runs=runs))
    connection.execute(_EMPTY_LINE.format(runs=runs))
    for table in ("snapshot", "marks", "chunks", "attributes", "definitions", "runs"):
        column = "id" if table == "runs" else "run"
        connection.execute(f"DELETE FROM {table} WHERE {column} IN ({runs})")
    if ids:
        note(connection, None)  # a number of a deleted signal may be given again


def discard_history(connection: sqlite3.Connection, run_id: str, before: int, tails: Tails) -> None:
    """Delete the entries of a run's journal before the transition of the last mark up to the seq `before`."""
    fold(connection, run_id, tails)  # no entry that is needed for the data is deleted
    for (run,) in connection.execute("SELECT id FROM runs WHERE run_id = ?", (run_id,)).fetchall():
        for mark, seq in connection.execute(_MARK_BEFORE, (run, before)).fetchall():
            place = {"mark": mark, "run": run, "seq": seq}
            for (first,) in connection.execute(TRANSITION, place).fetchall():
                connection.execute(DISCARD_OLDER, {"first": first, "run": run})
                connection.execute("UPDATE journal SET prev = 0 WHERE id = ?", (first,))
                connection.execute("DELETE FROM marks WHERE run = ? AND seq < ?", (run, seq))
