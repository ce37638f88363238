"""Finds and deletes the finished runs that a retention does not keep, many at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, LiteralString

from cano import AuditEntry, Retention, RunRecord

from cano_postgres.audit import row_of
from cano_postgres.connection import Connection
from cano_postgres.reading import COLUMNS, listed
from cano_postgres.work import Rows, Statement

_HAS_ENDED: LiteralString = "status IN ('succeeded', 'failed', 'cancelled')"
_LATER: LiteralString = "created >= %(created)s AND (created > %(created)s OR run_id > %(run_id)s)"
_FIRST: LiteralString = " ORDER BY created, run_id LIMIT %(limit)s::bigint"
AGED: LiteralString = (
    " UNION ALL ".join(
        f"""
    (SELECT {COLUMNS} FROM runs
    WHERE status = '{status}' AND created <= %(before)s AND %(now)s::float8 - updated > %(age)s AND {_LATER}
    {_FIRST})"""
        for status in ("succeeded", "failed", "cancelled")
    )
    + _FIRST
)
# an expression instead of the column keeps the planner from other indexes than that of workflows; if `many` is empty,
# the index alone says so, without a look at the runs
TOO_MANY: LiteralString = f"""
    WITH RECURSIVE names (name) AS (
        SELECT min(workflow) FROM runs
        UNION ALL
        SELECT (SELECT min(workflow) FROM runs WHERE workflow > name) FROM names WHERE name IS NOT NULL
    )
    SELECT found.* FROM names, LATERAL (
        SELECT FROM runs WHERE workflow = name ORDER BY created DESC LIMIT 1 OFFSET %(keep)s::bigint
    ) AS many, LATERAL (
        SELECT created AS newest, run_id AS newest_id FROM runs
        WHERE workflow = name AND status || '' IN ('succeeded', 'failed', 'cancelled')
        ORDER BY created DESC, run_id DESC LIMIT 1 OFFSET %(keep)s::bigint
    ) AS kept, LATERAL (
        SELECT {COLUMNS} FROM runs
        WHERE workflow = name AND status || '' IN ('succeeded', 'failed', 'cancelled') AND created <= newest
            AND (created < newest OR run_id <= newest_id) AND {_LATER}
        {_FIRST}
    ) AS found {_FIRST}"""
_LOCK: LiteralString = "SELECT run_id FROM runs WHERE run_id = ANY(%s) ORDER BY run_id FOR UPDATE"
# a statement after that one, so that it sees every commit
_FORGET: LiteralString = f"""
    WITH gone AS (
        DELETE FROM runs
        WHERE run_id = ANY(%s) AND {_HAS_ENDED} AND (holder IS NULL OR expires IS NULL OR expires < %s)
        RETURNING id, run_id
    ),
        signals AS (DELETE FROM signals USING gone WHERE signals.run_id = gone.run_id),
        lines AS (DELETE FROM journal USING gone WHERE journal.run = gone.id),
        data AS (DELETE FROM snapshot USING gone WHERE snapshot.run = gone.id),
        found AS (DELETE FROM attributes USING gone WHERE attributes.run = gone.id),
        streams AS (DELETE FROM chunks USING gone WHERE chunks.run = gone.id),
        noted AS (
            INSERT INTO audit (run_id, action, actor, at, detail)
            SELECT run_id, given.* FROM gone, (SELECT %s::text, %s::text, %s::float8, %s::bytea) AS given (action)
            WHERE given.action IS NOT NULL
        )
    SELECT run_id FROM gone"""
# the entries before the first of transition `before`, or of the newest one, if none of them is needed for the data
DISCARD: LiteralString = """
    WITH run AS MATERIALIZED (
        SELECT id, head, folded, coalesce(discarded, 0) AS discarded FROM runs WHERE run_id = %(run_id)s FOR UPDATE
    ), cut AS MATERIALIZED (
        SELECT id, (
            SELECT line FROM journal WHERE run = id AND line > discarded AND seq >= least(
                %(before)s::bigint, (SELECT seq FROM journal WHERE run = id AND line = head)
            ) ORDER BY line LIMIT 1
        ) AS line, discarded, folded FROM run
    ), gone AS (
        DELETE FROM journal USING cut
        WHERE journal.run = cut.id AND journal.line > discarded AND journal.line < cut.line AND cut.line <= folded
    )
    UPDATE runs SET discarded = cut.line - 1 FROM cut
    WHERE runs.id = cut.id AND cut.line - 1 > cut.discarded AND cut.line <= cut.folded"""
_SLACK = 1.0
"""Seconds that a run may have been created after its end, by a clock that was set back."""


async def expired(
    connection: Connection, retention: Retention, now: float, limit: int, after: tuple[float, str] | None
) -> list[RunRecord]:
    """Return finished runs that `retention` does not keep, without data, oldest first."""
    age, every = retention.max_seconds, retention.on_terminal == "delete"
    created, run_id = after or (float("-inf"), "")
    values: dict[str, Any] = {"now": now, "limit": limit, "created": created, "run_id": run_id}
    found: dict[str, RunRecord] = {}
    if every or age is not None:
        before = float("inf") if every or age is None else now - age + _SLACK
        aged = {**values, "before": before, "age": float("-inf") if every else age}
        found.update({run.run_id: run for run in await listed(connection, AGED, aged)})
    if retention.keep_last is not None and not every:
        too_many = await listed(connection, TOO_MANY, {**values, "keep": retention.keep_last})
        found.update({run.run_id: run for run in too_many})
    return sorted(found.values(), key=lambda run: run.place)[:limit]


class DeleteFinished:
    """The work of deleting those of some runs that have finished and have no lease. Its outcome is their ids."""

    run_id = None
    news = ""  # other backends look at all runs
    size = 0
    awaits = False

    def __init__(self, run_ids: Sequence[str], now: float, entry: AuditEntry | None) -> None:
        self._ids = sorted(set(run_ids))
        audit = (None,) * 4 if entry is None else row_of(entry)[1:]
        self._forget: Statement = _FORGET, (self._ids, now, *audit)

    def statements(self, *, again: bool) -> Sequence[Statement]:
        """Return the deletion, which may be repeated."""
        return [(_LOCK, (self._ids,)), self._forget]

    def outcome(self, rows: Sequence[Rows], *, again: bool) -> list[str]:
        """Return the ids of the deleted runs. After a lost answer, those that are missing were deleted."""
        there = {run_id for (run_id,) in rows[0]}
        return [run_id for (run_id,) in rows[1]] + [run_id for run_id in self._ids if again and run_id not in there]


class Discard:
    """The work of deleting the oldest entries of a run's journal, those before a transition. Its outcome is None."""

    news = None
    size = 0
    awaits = False

    def __init__(self, run_id: str, before: int) -> None:
        self.run_id = run_id
        self._discard: Statement = DISCARD, {"run_id": run_id, "before": before}

    def statements(self, *, again: bool) -> Sequence[Statement]:
        """Return the deletion, which may be repeated."""
        return [self._discard]

    def outcome(self, rows: Sequence[Rows], *, again: bool) -> None:
        """Return None."""
