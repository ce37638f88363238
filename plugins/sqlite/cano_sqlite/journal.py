"""Commits: each is a line of the journal, which a trigger brings the run's row up to."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import chain
from operator import attrgetter
from typing import Any, NamedTuple, TypeGuard

from cano import Commit, ConflictError, RunStatus, Wait
from cano_msgspec.packing import LARGE, pack_changes, pack_extra, size_of

from cano_sqlite.job import Job
from cano_sqlite.signals import consume
from cano_sqlite.snapshot import fold
from cano_sqlite.tails import Tails

# the database itself compares seq and token, inside the transaction: nothing that this process remembers counts
_APPEND = """
    INSERT INTO journal (run, prev, seq, status, extra, state, at, changes)
    SELECT id, head, ?, ?, ?, ?, ?, ? FROM runs WHERE run_id = ? AND seq = ? AND token = ?"""
_STEP = """
    INSERT INTO journal (run, prev, seq, status, state, at, changes)
    SELECT id, head, seq + 1, 'running', ?, ?, ? FROM runs
    WHERE run_id = ? AND seq = ? AND token = ? AND status = 'running'"""
_MADE = """
    SELECT runs.run_id, journal.id FROM journal JOIN runs ON runs.id = journal.run
    WHERE journal.id <= :last AND journal.id > :last - :lines"""
_CHANGE = "UPDATE runs SET status = ?, tail = tail + ?, wake = ?, awaited = ? WHERE run_id = ?"
_RELEASE = "UPDATE runs SET holder = NULL, expires = NULL WHERE run_id = ?"


FEWEST_STEPS = 3
"""How many runs have to go a step for that to be a statement of its own."""

_RUNNING = RunStatus.RUNNING  # looking it up takes as long as a call
_MORE = slice(Commit._fields.index("error"), Commit._fields.index("at"))  # what seldom comes with a step
_NOTHING_MORE = tuple(Commit._field_defaults[name] for name in Commit._fields[_MORE])
_line_of = attrgetter("line")


class Append(Job):
    """Makes one commit. All is packed, or copied, when it is made: its arguments may change afterwards.

    Attributes:
        seq: the run's number of transitions after it.
        token: that which the run must have.
        line: the state, time and packed changes for the journal, and the id, seq and token that the run must have.
        changes: what the line says of the data: what is set, and what is removed.
        rest: what others than plain ones have: a status, the packed parts that are seldom there, a wait, whether the
            lease is freed, and the signals consumed.
        tails: what earlier lines have changed.
    """

    run_id: str
    rest: tuple[str, bytes | None, Wait | None, bool, Sequence[str]] = "running", None, None, False, ()

    def __init__(self, commit: Commit, tails: Tails) -> None:
        (
            run_id, token, expected_seq, seq, state, status, changed, removed, error, wait, payload, consumed,
            release, at,
        ) = commit  # fmt: skip
        self.run_id = run_id
        self.seq = seq
        self.tails = tails
        self.token = token
        self.size = size = size_of(changed)
        self.changes = changes = dict(changed), tuple(removed)
        # sqlite3 takes a bytearray as it is, but looks for adapters of bytes, which takes as long as all other values
        packed = bytearray(pack_changes(*changes) if size < LARGE else b"")  # a large one is packed in the thread
        self.line = state, at, packed, run_id, expected_seq, token
        self.plain = size < LARGE and is_step(commit)
        if not self.plain:
            self.rest = status.value, pack_extra(error, wait, payload), wait, release, tuple(consumed)

    def do(self, connection: sqlite3.Connection) -> None:
        """Do it inside a transaction. Raises ConflictError, and has written nothing then."""
        state, at, packed, run_id, expected_seq, token = line = self.line
        if self.plain:
            made = connection.execute(_STEP, line)
            if made.rowcount == 1:
                if remember(connection, self.tails, [(self, made.lastrowid or 0)]):
                    fold(connection, run_id, self.tails)
                return
        status, extra, wait, release, consumed = self.rest
        changes = packed if self.size < LARGE else pack_changes(*self.changes)
        values = self.seq, status, extra, state, at, changes, run_id, expected_seq, token
        if connection.execute(_APPEND, values).rowcount != 1:
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


def is_step(commit: Commit) -> bool:
    """Whether a run goes on by one step, and no error, wait, payload or signal comes with that, and no freed lease."""
    return commit.status is _RUNNING and commit.seq == commit.expected_seq + 1 and commit[_MORE] == _NOTHING_MORE


def remember(connection: sqlite3.Connection, tails: Tails, made: Iterable[tuple[Append, int]]) -> list[str]:
    """Remember that plain ones were done, and the line that each has become; the runs that are to be folded."""
    due = []
    find = tails.find
    for append, head in made:
        run_id, seq = append.run_id, append.seq
        changed, removed = append.changes
        tail = find(run_id)
        if tail is None or not tail.add(head, seq - 1, append.token, seq, append.size, changed, removed):
            if _is_long(connection, tails, append, head):
                due.append(run_id)
        elif seq >= tail.due:
            due.append(run_id)
    return due


def _is_long(connection: sqlite3.Connection, tails: Tails, append: Append, head: int) -> bool:
    """Remember that the run's newest line is `head`, but not what it changes; whether it is to be folded."""
    run_id = append.run_id
    tails.take(run_id)
    try:
        row = connection.execute("SELECT id, tail FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    except sqlite3.Error:
        if connection.in_transaction:
            raise
        return False  # the line is on disk: that less is remembered of it is no reason to say that it is not
    if row is None:
        return False  # others have deleted it meanwhile
    run, count = row
    tails.begin(run_id, run, head, None, append.seq, append.token)
    return bool(count >= tails.every)


def are_steps(jobs: Sequence[Job]) -> TypeGuard[Sequence[Append]]:
    """Whether these are plain commits of different runs, as many as are worth a statement of their own."""
    if len(jobs) < FEWEST_STEPS:
        return False
    return len({job.run_id for job in jobs if job.plain}) == len(jobs)  # two of one run would not see each other


class Made(NamedTuple):
    """The lines that a statement has written: how many they are, and the last of them."""

    lines: int
    last: int


def step_all(connection: sqlite3.Connection, appends: Sequence[Append]) -> Made:
    """Do many plain ones with a single statement; those that it can."""
    size = -(-len(appends) // 10) * 10
    values: list[Any] = list(chain.from_iterable(map(_line_of, appends)))
    values += [-1] * (len(appends[0].line) * (size - len(appends)))  # lines of no run: none has such a seq
    made = connection.execute(_steps(size), values)
    return Made(made.rowcount, made.lastrowid or 0)


def heads_of(connection: sqlite3.Connection, made: Made) -> dict[str, int]:
    """The runs that have gone a step with `step_all`, where not all have, and the line that each has got."""
    return dict(connection.execute(_MADE, made._asdict()) if made.lines else ())


@cache
def _steps(size: int) -> str:
    """`_STEP` for so many runs; of few sizes, so that each stays prepared."""
    return f"""
        INSERT INTO journal (run, prev, seq, status, state, at, changes)
        WITH line (state, at, changes, run_id, expected, token)
            AS (VALUES {", ".join(["(?, ?, ?, ?, ?, ?)"] * size)})
        SELECT runs.id, runs.head, line.expected + 1, 'running', line.state, line.at, line.changes
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
