"""The audit: entries that stay when their runs are deleted.

An entry is added in the transaction of its action, and only if the action had an effect: the row that it writes, or for
a deletion the row that it locks, has the transaction's id then. So a repetition after a lost answer adds none.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import getrandbits
from typing import Any, LiteralString

from cano import AuditEntry, Commit, RunRecord, Signal
from cano_msgspec.packing import audit_entry

from cano_postgres.connection import Connection
from cano_postgres.signals import THIS, key_of
from cano_postgres.work import Rows, Statement, Work

_VALUES: LiteralString = "SELECT %s::text, %s::text, %s::text, %s::float8, %s::bytea"
_INTO: LiteralString = "INSERT INTO audit (run_id, action, actor, at, detail) "
_NOW: LiteralString = "xmin = pg_current_xact_id()::xid"
_COMMITTED: LiteralString = f"""{_INTO}{_VALUES} WHERE EXISTS (
    SELECT FROM journal WHERE run = (SELECT id FROM runs WHERE run_id = %s) AND mark = %s AND {_NOW})"""
_CREATED: LiteralString = f"{_INTO}{_VALUES} WHERE EXISTS (SELECT FROM runs WHERE run_id = %s AND {_NOW})"
_SENT: LiteralString = f"""{_INTO}{_VALUES} WHERE EXISTS (
    SELECT FROM signals WHERE {THIS} AND {_NOW})"""
_EXISTS: LiteralString = f"{_INTO}{_VALUES} WHERE EXISTS (SELECT FROM runs WHERE run_id = %s)"
_ADD: LiteralString = """
    INSERT INTO audit (run_id, action, actor, at, detail, mark)
    SELECT given.*, %s FROM unnest(%s::text[], %s::text[], %s::text[], %s::float8[], %s::bytea[]) AS given"""
_ADD_ONCE: LiteralString = f"{_ADD} WHERE NOT EXISTS (SELECT FROM audit WHERE mark = %s)"
_COLUMNS: LiteralString = "SELECT run_id, action, actor, at, detail FROM audit"
_ORDER: LiteralString = " ORDER BY at DESC, id DESC LIMIT %s"
LISTED: LiteralString = _COLUMNS + _ORDER
OF_RUN: LiteralString = f"{_COLUMNS} WHERE run_id = %s{_ORDER}"
_PRUNE: LiteralString = """
    WITH old AS (DELETE FROM audit WHERE at NOT BETWEEN %s AND 1e300 RETURNING 1) SELECT count(*) FROM old"""


def row_of(entry: AuditEntry) -> tuple[Any, ...]:
    """Return an entry's values. Raise UnicodeError if a text cannot be stored."""
    return entry.run_id, entry.action, entry.actor, entry.at, entry.detail.encode()


def committed(commit: Commit, mark: int, entry: AuditEntry) -> Statement:
    """Return the statement that adds the entry of a commit, after that one."""
    return _COMMITTED, (*row_of(entry), commit.run_id, mark)


def created(work: Work, run: RunRecord, entry: AuditEntry) -> Audited:
    """Return the work of creating a run, with its entry."""
    return Audited(work, (_CREATED, (*row_of(entry), run.run_id)))


def sent(work: Work, run_id: str, signal: Signal, entry: AuditEntry) -> Audited:
    """Return the work of storing a signal, with its entry."""
    return Audited(work, (_SENT, (*row_of(entry), run_id, *key_of(signal.key))))


def deleted(work: Work, run_id: str, entry: AuditEntry) -> Audited:
    """Return the work of deleting a run, with its entry: after the run is locked, and before it is deleted."""
    return Audited(work, (_EXISTS, (*row_of(entry), run_id)), at=1)


class Audited:
    """A work with the entry of its action. Its outcome is that of the work.

    Args:
        work: the work.
        entry: the statement that adds the entry.
        at: the number of the work's statements that precede it; None for all.
    """

    def __init__(self, work: Work, entry: Statement, at: int | None = None) -> None:
        self.run_id, self.size, self.news, self.awaits = work.run_id, work.size, work.news, work.awaits
        self._work = work
        self._entry = entry
        self._at = at

    def statements(self, *, again: bool) -> Sequence[Statement]:
        """Return the work's statements, and that of the entry."""
        theirs = self._work.statements(again=again)
        at = len(theirs) if self._at is None else self._at
        return [*theirs[:at], self._entry, *theirs[at:]]

    def outcome(self, rows: Sequence[Rows], *, again: bool) -> Any:
        """Return the work's outcome."""
        at = len(rows) - 1 if self._at is None else self._at
        return self._work.outcome([*rows[:at], *rows[at + 1 :]], again=again)


class Add:
    """The work of adding entries by themselves, after deleting those before a time, if one is given.

    Its outcome is the number of deleted ones. If the answer is lost, it may be too small.
    """

    run_id = news = None
    awaits = False

    def __init__(self, entries: Sequence[AuditEntry], before: float | None = None) -> None:
        columns: list[list[Any]] = [list(column) for column in zip(*map(row_of, entries), strict=True)]
        self.size = sum(len(entry.detail) for entry in entries)
        self._prune: list[Statement] = [] if before is None else [(_PRUNE, (before,))]
        self._mark = getrandbits(63)
        self._values = self._mark, *columns

    def statements(self, *, again: bool) -> Sequence[Statement]:
        """Return the deletion and the insertion; with `again`, this one unless it was done."""
        add: Statement = (_ADD_ONCE, (*self._values, self._mark)) if again else (_ADD, self._values)
        return [*self._prune, add]

    def outcome(self, rows: Sequence[Rows], *, again: bool) -> int:
        """Return the number of deleted entries."""
        return int(rows[0][0][0]) if self._prune else 0


async def listed(connection: Connection, run_id: str | None, limit: int | None) -> list[AuditEntry]:
    """Return the newest `limit` entries of a run, or of all, oldest first."""
    if run_id is None:
        cursor = await connection.execute(LISTED, (limit,), binary=True)
    else:
        cursor = await connection.execute(OF_RUN, (run_id, limit), binary=True)
    return [_entry(*row) for row in reversed(await cursor.fetchall())]


def _entry(run_id: str | None, action: str, actor: str, at: float, detail: bytes) -> AuditEntry:
    """Return the entry of a row, whatever is in it."""
    return audit_entry(run_id, action, actor, at, detail.decode(errors="replace"))
