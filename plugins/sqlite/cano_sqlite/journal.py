"""Commits: each is a line of the journal and a change of one small row."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from cano import Commit, ConflictError, RunStatus
from cano_msgspec.packing import LARGE, pack_changes, pack_extra, size_of

from cano_sqlite.signals import consume
from cano_sqlite.snapshot import fold
from cano_sqlite.tails import Tail, Tails
from cano_sqlite.worker import Job

# the database itself compares seq and token, inside the transaction: nothing that this process remembers counts
_APPEND = """
    INSERT INTO journal (run, prev, seq, state, status, at, extra, changes)
    SELECT id, head, ?, ?, ?, ?, ?, ? FROM runs WHERE run_id = ? AND seq = ? AND token = ?"""
_STEP = _APPEND + " AND status = 'running'"
_GROUPS = (100, 50, 25, 10, 3)
_VALUES = "(?, ?, ?, ?, ?, ?, ?, ?, ?)"
# the same for so many lines in one statement, which takes half as long; of few sizes, so that each stays prepared
_STEPS = {
    size: f"""
    INSERT INTO journal (run, prev, seq, state, status, at, extra, changes)
    WITH line (seq, state, status, at, extra, changes, run_id, expected, token)
        AS (VALUES {", ".join([_VALUES] * size)})
    SELECT runs.id, runs.head, line.seq, line.state, line.status, line.at, line.extra, line.changes
    FROM line CROSS JOIN runs
    WHERE runs.run_id = line.run_id AND runs.seq = line.expected AND runs.token = line.token
        AND runs.status = 'running'"""
    for size in _GROUPS
}
# sets no column that has an index
_ADVANCE = "UPDATE runs SET seq = ?, head = ?, updated = ?, tail = tail + 1 WHERE run_id = ?"
# the same for all lines that were just appended; SQLite knows UPDATE FROM since 3.33
_ADVANCE_ALL = """
    UPDATE runs SET seq = line.seq, head = line.id, updated = line.at, tail = tail + 1
    FROM journal AS line WHERE line.id > ? AND runs.id = line.run"""
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
        changes: what the line says of the data: what is set, and what is removed.
        rest: what only others than plain ones have: a wait, whether the lease is freed, and the signals consumed.
        tails: what earlier lines have changed.
    """

    __slots__ = ("changes", "folds", "line", "plain", "rest", "size", "tails")

    def __init__(self, commit: Commit, tails: Tails) -> None:
        (
            run_id, token, expected_seq, seq, state, status, changed, removed, error, wait, payload, consumed, release,
            at,
        ) = commit  # fmt: skip
        self.size = size = size_of(changed)
        self.changes = changes = dict(changed), tuple(removed)
        self.tails = tails
        running = status is RunStatus.RUNNING
        self.rest = wait, release, consumed and tuple(consumed)
        self.plain = running and size < LARGE and not consumed and not release and seq != expected_seq
        self.folds = self.plain and tails.fold_between(run_id, expected_seq, seq)
        packed = pack_changes(*changes) if size < LARGE else b""  # a large one is packed in the thread
        self.line = (
            seq, state, "running" if running else status.value, at, pack_extra(error, wait, payload), packed,
            run_id, expected_seq, token,
        )  # fmt: skip

    def __call__(self, connection: sqlite3.Connection) -> None:
        """Do it inside a transaction. Raises ConflictError, and has written nothing then."""
        if self.plain and self._go_on(connection):
            return
        seq, _, status, at, _, _, run_id, expected_seq, token = line = self.line
        if self.size >= LARGE:
            line = (*line[:5], pack_changes(*self.changes), *line[6:])
        appended = connection.execute(_APPEND, line)
        if appended.rowcount != 1:
            raise _conflict(connection, run_id, expected_seq, token)
        self.tails.take(run_id)
        wake = awaited = None
        wait, release, consumed = self.rest
        if status == "parked" and wait is not None:
            wake, awaited = wait.until, wait.signal
        weight = 1 + self.size // LARGE  # a large line is as much to read again as many small ones
        connection.execute(_CHANGE, (seq, appended.lastrowid, at, status, weight, wake, awaited, run_id))
        if release:
            connection.execute(_RELEASE, (run_id,))
        for signal in consumed:
            consume(connection, run_id, signal)
        (tail,) = connection.execute("SELECT tail FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        if tail >= self.tails.every:
            fold(connection, run_id, self.tails)

    def _go_on(self, connection: sqlite3.Connection) -> bool:
        """Do a plain one, unless the run does not just go on."""
        seq, _, _, at, _, _, run_id, _, token = line = self.line
        appended = connection.execute(_STEP, line)
        if appended.rowcount != 1:
            return False
        head = appended.lastrowid or 0
        connection.execute(_ADVANCE, (seq, head, at, run_id))
        self.note(connection, head)
        if self.tails.find(run_id) is None:
            (run,) = connection.execute("SELECT id FROM runs WHERE run_id = ?", (run_id,)).fetchone()
            self.tails.begin(run_id, Tail(run, head, None, seq, token))
        return True

    def note(self, connection: sqlite3.Connection, head: int) -> None:
        """What follows when it was done as a plain one, and is the journal's line `head`."""
        self.tails.add(self, head)
        if self.folds:
            fold(connection, self.line[6], self.tails)


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
            if connection.execute(_STEPS[size], group).rowcount != size:
                return False
            done += size
    rest = [append.line for append in appends[done:]]
    if rest and connection.executemany(_STEP, rest).rowcount != len(rest):
        return False
    (last,) = connection.execute("SELECT last_insert_rowid()").fetchone()
    if connection.execute(_ADVANCE_ALL, (last - count,)).rowcount != count:
        return False  # two of one run, say
    for head, append in enumerate(appends, last - count + 1):
        append.note(connection, head)
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
