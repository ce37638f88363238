"""Commits: each is a line of the journal and a change of one small row."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any
from zlib import crc32

from cano import Commit, ConflictError, RunStatus
from cano_msgspec.packing import LARGE, pack_changes, pack_extra, size_of

from cano_sqlite.signals import consume
from cano_sqlite.snapshot import fold
from cano_sqlite.tails import Tails
from cano_sqlite.worker import Job

# the database itself compares seq and token, inside the transaction: nothing that this process remembers counts
_APPEND = """
    INSERT INTO journal (run, prev, seq, state, status, at, extra, changes)
    SELECT id, head, ?, ?, ?, ?, ?, ? FROM runs WHERE run_id = ? AND seq = ? AND token = ?"""
_GROUPS = (100, 30, 10, 3)
_VALUES = "(?, ?, ?, ?, ?, ?, ?, ?, ?)"
# the same for so many lines in one statement, which takes half as long; of few sizes, so that each stays prepared
_APPEND_GROUP = {
    size: f"""
    INSERT INTO journal (run, prev, seq, state, status, at, extra, changes)
    WITH line (seq, state, status, at, extra, changes, run_id, expected, token)
        AS (VALUES {", ".join([_VALUES] * size)})
    SELECT runs.id, runs.head, line.seq, line.state, line.status, line.at, line.extra, line.changes
    FROM line CROSS JOIN runs
    WHERE runs.run_id = line.run_id AND runs.seq = line.expected AND runs.token = line.token"""
    for size in _GROUPS
}
# sets no column that has an index
_ADVANCE = """
    UPDATE runs SET seq = ?, head = ?, updated = ?, tail = tail + 1
    WHERE run_id = ? AND seq = ? AND token = ? AND status = 'running'"""
# the same for all lines that were just appended; SQLite knows UPDATE FROM since 3.33
_ADVANCE_ALL = """
    UPDATE runs SET seq = line.seq, head = line.id, updated = line.at, tail = tail + 1
    FROM journal AS line WHERE line.id > ? AND runs.id = line.run AND runs.status = 'running'"""
_CHANGE = """
    UPDATE runs SET seq = ?, head = ?, updated = ?, status = ?, tail = tail + ?, wake = ?, awaited = ?
    WHERE run_id = ?"""
_RELEASE = "UPDATE runs SET holder = NULL, expires = NULL WHERE run_id = ?"


class Append:
    """The work of one commit. All is packed, or copied, when it is made: its arguments may change afterwards.

    Attributes:
        plain: whether it is a mere step of a run that goes on, as most commits are.
        folds: whether a plain one is followed by a fold. Runs that go in step fold at different steps.
        size: about how many bytes it writes.
        line: what goes into the journal, and the id, seq and token that the run must have.
        changed, removed: what the line says of the data.
        tails: what earlier lines have changed.
    """

    __slots__ = (
        "changed", "consumed", "every", "folds", "line", "plain", "release", "removed", "size", "tails", "wait",
    )  # fmt: skip

    def __init__(self, commit: Commit, every: int, tails: Tails) -> None:
        (
            run_id, token, expected_seq, seq, state, status, changed, removed, error, wait, payload, consumed, release,
            at,
        ) = commit  # fmt: skip
        size = size_of(changed)
        large = size >= LARGE
        changed, removed = dict(changed), tuple(removed)
        changes: Any = None if large else pack_changes(changed, removed)
        extra = pack_extra(error, wait, payload)
        running = status is RunStatus.RUNNING
        self.size = size
        self.every = every
        self.tails = tails
        self.changed = changed
        self.removed = removed
        self.wait = wait if status is RunStatus.PARKED else None
        self.consumed = consumed and tuple(consumed)
        self.release = release
        self.plain = plain = running and not large and not consumed and not release and seq != expected_seq
        turn = crc32(run_id.encode(errors="replace"))
        self.folds = plain and (seq + turn) // every != (expected_seq + turn) // every
        self.line = (
            seq, state, "running" if running else status.value, at, extra, changes, run_id, expected_seq, token,
        )  # fmt: skip

    def __call__(self, connection: sqlite3.Connection) -> None:
        """Do it by itself. Raises ConflictError, and has written nothing then."""
        seq, _, status, at, _, _, run_id, expected_seq, token = line = self.line
        if self.size >= LARGE:
            line = (*line[:5], pack_changes(self.changed, self.removed), *line[6:])
        appended = connection.execute(_APPEND, line)
        head = appended.lastrowid
        if appended.rowcount != 1:
            raise _conflict(connection, run_id, expected_seq, token)
        if self.plain and connection.execute(_ADVANCE, (seq, head, at, run_id, expected_seq, token)).rowcount == 1:
            self.advanced(connection)
            return
        self.tails.take(run_id)
        wake = awaited = None
        if self.wait is not None:
            wake, awaited = self.wait.until, self.wait.signal
        weight = 1 + self.size // LARGE  # a large line is as much to read again as many small ones
        connection.execute(_CHANGE, (seq, head, at, status, weight, wake, awaited, run_id))
        if self.release:
            connection.execute(_RELEASE, (run_id,))
        for signal in self.consumed:
            consume(connection, run_id, signal)
        (tail,) = connection.execute("SELECT tail FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        if tail >= self.every:
            fold(connection, run_id, self.tails)

    def advanced(self, connection: sqlite3.Connection) -> None:
        """What follows when it was done as a plain one."""
        seq, _, _, _, _, _, run_id, expected_seq, token = self.line
        self.tails.add(run_id, expected_seq, seq, token, self.size, self.changed, self.removed)
        if self.folds:
            fold(connection, run_id, self.tails)


def append_all(connection: sqlite3.Connection, jobs: Sequence[Job]) -> None:
    """Do the plain appends of many jobs, with two statements for all of them unless one of them is stale."""
    if len(jobs) > 1:
        connection.execute("SAVEPOINT appends")
        if _append_together(connection, [job.work for job in jobs]):
            connection.execute("RELEASE appends")
            return
        connection.execute("ROLLBACK TO appends")
        connection.execute("RELEASE appends")
    for job in jobs:
        try:
            job.work(connection)
        except ConflictError as error:
            job.error = error


def _append_together(connection: sqlite3.Connection, appends: Sequence[Append]) -> bool:
    """Whether all of them could be made; if not, some of them may have been."""
    count = len(appends)
    if sqlite3.sqlite_version_info < (3, 33):
        return False
    done = 0
    for size in _GROUPS:
        while count - done >= size:
            group = [value for append in appends[done : done + size] for value in append.line]
            if connection.execute(_APPEND_GROUP[size], group).rowcount != size:
                return False
            done += size
    rest = [append.line for append in appends[done:]]
    if rest and connection.executemany(_APPEND, rest).rowcount != len(rest):
        return False
    (last,) = connection.execute("SELECT last_insert_rowid()").fetchone()
    if connection.execute(_ADVANCE_ALL, (last - count,)).rowcount != count:
        return False
    for append in appends:
        append.advanced(connection)
    return True


def _conflict(connection: sqlite3.Connection, run_id: str, expected_seq: int, token: int) -> ConflictError:
    """Why the run is not as a commit expects it to be."""
    run = connection.execute("SELECT seq, token FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    if run is None:
        stale = "it is gone"
    elif run[1] != token:
        stale = f"it was claimed anew: its token is {run[1]}, not {token}"
    else:
        stale = f"it has made {run[0]} transitions, not {expected_seq}"
    return ConflictError(f"a commit to the run {run_id!r} is stale: {stale}", run_id=run_id)
