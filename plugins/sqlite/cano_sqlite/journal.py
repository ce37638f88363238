"""Commits: each is a line of the journal and a change of one small row."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any
from zlib import crc32

from cano import Commit, ConflictError, RunStatus

from cano_sqlite.packing import LARGE, pack_changes, pack_extra, size_of
from cano_sqlite.signals import consume
from cano_sqlite.snapshot import fold
from cano_sqlite.worker import Job

# the database itself compares seq and token, inside the transaction: nothing that this process remembers counts
_APPEND = """
    INSERT INTO journal (run, prev, seq, state, status, at, extra, changes)
    SELECT id, head, ?, ?, ?, ?, ?, ? FROM runs WHERE run_id = ? AND seq = ? AND token = ?"""
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
    """

    __slots__ = ("consumed", "every", "folds", "line", "plain", "release", "size", "wait")

    def __init__(self, commit: Commit, every: int) -> None:
        seq, run_id, wait, status = commit.seq, commit.run_id, commit.wait, commit.status
        size = size_of(commit.changed)
        large = size >= LARGE
        changes: Any
        if large:
            changes = (dict(commit.changed), tuple(commit.removed))
        else:
            changes = pack_changes(commit.changed, commit.removed)
        extra = pack_extra(commit.error, wait, commit.payload)
        running = status is RunStatus.RUNNING
        self.size = size
        self.every = every
        self.wait = wait if status is RunStatus.PARKED else None
        self.consumed = commit.consumed and tuple(commit.consumed)
        self.release = commit.release
        self.plain = running and not large and not self.consumed and not self.release and seq != commit.expected_seq
        turn = crc32(run_id.encode(errors="replace"))
        self.folds = self.plain and (seq + turn) // every != (commit.expected_seq + turn) // every
        self.line = (
            seq, commit.state, "running" if running else status.value, commit.at, extra, changes,
            run_id, commit.expected_seq, commit.token,
        )  # fmt: skip

    def __call__(self, connection: sqlite3.Connection) -> None:
        """Do it by itself. Raises ConflictError, and has written nothing then."""
        seq, _, status, at, _, changes, run_id, expected_seq, token = line = self.line
        if self.size >= LARGE:
            line = (*line[:5], pack_changes(*changes), *line[6:])
        appended = connection.execute(_APPEND, line)
        head = appended.lastrowid
        if appended.rowcount != 1:
            raise _conflict(connection, run_id, expected_seq, token)
        if self.plain and connection.execute(_ADVANCE, (seq, head, at, run_id, expected_seq, token)).rowcount == 1:
            if self.folds:
                fold(connection, run_id)
            return
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
            fold(connection, run_id)


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
    if connection.executemany(_APPEND, [append.line for append in appends]).rowcount != count:
        return False
    (last,) = connection.execute("SELECT last_insert_rowid()").fetchone()
    if connection.execute(_ADVANCE_ALL, (last - count,)).rowcount != count:
        return False
    for append in appends:
        if append.folds:
            fold(connection, append.line[6])
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
