"""Commits: each is a line of the journal, which a trigger brings the run's row up to."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from cano import Commit, ConflictError, RunStatus
from cano_msgspec.packing import LARGE, pack_changes, pack_extra, size_of

from cano_sqlite.signals import consume
from cano_sqlite.snapshot import fold
from cano_sqlite.tails import Tails

# the database itself compares seq and token, inside the transaction: nothing that this process remembers counts
_LINE = """
    INSERT INTO journal (run, prev, seq, state, at, extra, changes, status)
    SELECT id, head, ?, ?, ?, ?, ?, {status} FROM runs WHERE run_id = ? AND seq = ? AND token = ?"""
_APPEND = _LINE.format(status="?")
_STEP = _LINE.format(status="'running'") + " AND status = 'running'"
_COLUMNS = 8
_MADE = """
    SELECT runs.run_id, journal.id FROM journal JOIN runs ON runs.id = journal.run
    WHERE journal.id <= :last AND journal.id > :last - :lines"""
_CHANGE = "UPDATE runs SET status = ?, tail = tail + ?, wake = ?, awaited = ? WHERE run_id = ?"
_RELEASE = "UPDATE runs SET holder = NULL, expires = NULL WHERE run_id = ?"


FEWEST_STEPS, MOST_STEPS = 3, 100
"""How many runs go a step in one statement."""


class Append:
    """The work of one commit. All is packed, or copied, when it is made: its arguments may change afterwards.

    Attributes:
        plain: whether it is a mere step of a run that goes on, as most commits are.
        size: about how many bytes it writes.
        line: what goes into the journal, and the id, seq and token that the run must have.
        changes: what the line says of the data: what is set, and what is removed.
        rest: what others than plain ones have: a status, a wait, whether the lease is freed, and the signals consumed.
        tails: what earlier lines have changed.
    """

    __slots__ = ("changes", "line", "plain", "rest", "size", "tails")

    def __init__(self, commit: Commit, tails: Tails) -> None:
        (
            run_id, token, expected_seq, seq, state, status, changed, removed, error, wait, payload, consumed, release,
            at,
        ) = commit  # fmt: skip
        self.size = size = size_of(changed)
        self.changes = changes = dict(changed), tuple(removed)
        self.tails = tails
        self.plain = (
            status is RunStatus.RUNNING and size < LARGE and not consumed and not release and seq != expected_seq
        )
        packed = pack_changes(*changes) if size < LARGE else b""  # a large one is packed in the thread
        extra = None if error is None and wait is None and payload is None else pack_extra(error, wait, payload)
        self.line = seq, state, at, extra, packed, run_id, expected_seq, token
        self.rest = None if self.plain else (status.value, wait, release, tuple(consumed))

    def __call__(self, connection: sqlite3.Connection) -> None:
        """Do it inside a transaction. Raises ConflictError, and has written nothing then."""
        if self.plain:
            made = connection.execute(_STEP, self.line)
            if made.rowcount == 1:
                if self.note(connection, made.lastrowid or 0):
                    fold(connection, self.line[5], self.tails)
                return
        _, _, _, _, _, run_id, expected_seq, token = line = self.line
        status, wait, release, consumed = self.rest or ("running", None, False, ())
        changes = line[4] if self.size < LARGE else pack_changes(*self.changes)
        if connection.execute(_APPEND, (*line[:4], changes, status, *line[5:])).rowcount != 1:
            raise _conflict(connection, run_id, expected_seq, token)
        self.tails.take(run_id)
        wake = awaited = None
        if status == "parked" and wait is not None:
            wake, awaited = wait.until, wait.signal
        more = self.size // LARGE  # a large line is as much to read again as many small ones
        connection.execute(_CHANGE, (status, more, wake, awaited, run_id))
        if release:
            connection.execute(_RELEASE, (run_id,))
        for signal in consumed:
            consume(connection, run_id, signal)
        (tail,) = connection.execute("SELECT tail FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        if tail >= self.tails.every:
            fold(connection, run_id, self.tails)

    def note(self, connection: sqlite3.Connection, head: int) -> bool:
        """Remember that it was done as a plain one, and is the line `head`; whether a fold is to follow."""
        seq, _, _, _, _, run_id, _, token = self.line
        tail = self.tails.add(self, head)
        if tail is not None:
            return seq >= tail.due
        row = connection.execute("SELECT id, tail FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        if row is None:
            return False  # others have deleted it meanwhile
        run, count = row
        self.tails.begin(run_id, run, head, None, seq, token)
        return bool(count >= self.tails.every)


def are_steps(works: Sequence[object]) -> bool:
    """Whether these are plain ones of different runs, as many as are worth a statement of their own."""
    if not FEWEST_STEPS <= len(works) <= MOST_STEPS:
        return False
    runs = {work.line[5] for work in works if isinstance(work, Append) and work.plain}
    return len(runs) == len(works)  # two of one run would not see each other


class Made(NamedTuple):
    """The lines that a statement has written: how many they are, and the last of them."""

    lines: int
    last: int


def step_all(connection: sqlite3.Connection, appends: Sequence[Append]) -> Made:
    """Do many plain ones with a single statement, which is a transaction of its own; those that it can."""
    size = -(-len(appends) // 10) * 10
    values = [value for append in appends for value in append.line]
    values += [None] * (_COLUMNS * (size - len(appends)))  # lines of no run
    made = connection.execute(_steps(size), values)
    return Made(made.rowcount, made.lastrowid or 0)


def lines_of(connection: sqlite3.Connection, appends: Sequence[Append], made: Made) -> Sequence[int | None]:
    """The line that each of these has become, after `step_all`; None where it could not be done."""
    if made.lines == len(appends):
        return range(made.last - made.lines + 1, made.last + 1)
    heads = dict(connection.execute(_MADE, made._asdict()) if made.lines else ())
    return [heads.get(append.line[5]) for append in appends]


@cache
def _steps(size: int) -> str:
    """`_STEP` for so many runs; of few sizes, so that each stays prepared."""
    return f"""
        INSERT INTO journal (run, prev, seq, state, status, at, extra, changes)
        WITH line (seq, state, at, extra, changes, run_id, expected, token)
            AS (VALUES {", ".join(["(?, ?, ?, ?, ?, ?, ?, ?)"] * size)})
        SELECT runs.id, runs.head, line.seq, line.state, 'running', line.at, line.extra, line.changes
        FROM line CROSS JOIN runs
        WHERE runs.run_id = line.run_id AND runs.seq = line.expected AND runs.token = line.token
            AND runs.status = 'running'"""


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
