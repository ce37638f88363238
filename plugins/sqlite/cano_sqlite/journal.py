"""Commits: each appends an entry to the journal, and a trigger updates the run's row."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import chain
from operator import attrgetter
from typing import Any, NamedTuple, TypeGuard

from cano import Commit, RunStatus, SignalKey, Wait
from cano_msgspec.packing import LARGE, outcome_of, pack_changes, pack_extra, size_of, stale

from cano_sqlite import streams
from cano_sqlite.attributes import write
from cano_sqlite.failures import LARGEST, check_size
from cano_sqlite.job import Job
from cano_sqlite.queues import put_back
from cano_sqlite.signals import consume, mark_answered
from cano_sqlite.snapshot import fold
from cano_sqlite.tails import Tails

# SQLite compares seq and token inside the transaction; what this process remembers does not decide
_APPEND = """
    INSERT INTO journal (run, prev, seq, status, extra, state, at, packed)
    SELECT id, head, ?, ?, ?, ?, ?, ? FROM runs WHERE run_id = ? AND seq = ? AND token = ?"""
_STEP = """
    INSERT INTO journal (run, prev, seq, status, state, at, packed)
    SELECT id, head, seq + 1, 'running', ?, ?, ? FROM runs
    WHERE run_id = ? AND seq = ? AND token = ? AND status = 'running'"""
_MADE = """
    SELECT runs.run_id, journal.id FROM journal JOIN runs ON runs.id = journal.run
    WHERE journal.id <= :last AND journal.id > :last - :lines"""
_CHANGE = """
    UPDATE runs SET status = ?, tail = tail + ?, wake = ?, awaited = ?, awaits_engine = ?, outcome = ?, error = ?,
        cause = ?
    WHERE run_id = ?"""
_RELEASE = "UPDATE runs SET holder = NULL, expires = NULL WHERE run_id = ?"


FEWEST_STEPS = 3
"""The least number of steps that are worth a statement of their own."""

_RUNNING = RunStatus.RUNNING  # looking up a member takes as long as a call
_MORE = slice(Commit._fields.index("error"), Commit._fields.index("at"))  # unset in most steps
_NOTHING_MORE = tuple(Commit._field_defaults[name] for name in Commit._fields[_MORE])
_line_of = attrgetter("line")

Changes = tuple[dict[str, Any], Sequence[str], dict[str, Any], Sequence[str]]
"""The arguments of `pack_changes`."""


class Append(Job):
    """The job of one commit. It packs or copies the commit at once, since the caller may change it afterwards.

    Attributes:
        seq: the run's seq after the commit.
        token: the fencing token that the run must have.
        line: state, time and packed changes of the entry; then the id, seq and token that the run must have.
        changes: the keys that are set, and those that are removed; then the same of the engine's own values.
        rest: what only a commit that is not plain has: status, packed error and payload, wait, whether the lease is
            released, and the keys of the consumed signals.
        outcome: what the run is found by, if it has ended.
        attributes: the run's search attributes, if they change.
        chunks: what it adds to the run's streams.
        tails: the tails of the store's runs.
    """

    run_id: str
    rest: tuple[str, bytes | None, Wait | None, bool, Sequence[SignalKey]] = "running", None, None, False, ()
    attributes: dict[str, bytes] | None = None
    outcome: tuple[str | None, str | None, str | None] = None, None, None

    def __init__(self, commit: Commit, tails: Tails) -> None:
        (
            run_id, token, expected_seq, seq, state, status, changed, removed, error, wait, payload, _,
            release, own, own_removed, _, _, attributes, chunks, at,
        ) = commit  # fmt: skip
        self.run_id = run_id
        self.seq = seq
        self.tails = tails
        self.token = token
        self.size = size = size_of(changed) if not own else size_of(changed) + size_of(own)
        if size > LARGEST:
            check_size(size, changed, run_id)
        changes: Changes
        self.changes = changes = dict(changed), tuple(removed), dict(own), tuple(own_removed)
        # sqlite3 looks for adapters of bytes, which takes as long as all other values, but not of a bytearray
        packed = bytearray(pack_changes(*changes) if size < LARGE else b"")  # the thread packs large changes
        self.line = state, at, packed, run_id, expected_seq, token
        self.plain = size < LARGE and is_step(commit)
        self.chunks = () if self.plain else tuple(chunks)
        if not self.plain:
            self.attributes = None if attributes is None else dict(attributes)
            self.outcome = outcome_of(status, state, error)
            self.rest = status.value, pack_extra(error, wait, payload), wait, release, commit.consumed_keys

    def do(self, connection: sqlite3.Connection) -> None:
        """Apply the commit inside a transaction. Raise ConflictError if it is stale; then nothing is written."""
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
            found = connection.execute("SELECT seq, token FROM runs WHERE run_id = ?", (run_id,)).fetchone()
            raise stale(run_id, expected_seq, token, found)
        self.tails.take(run_id)
        wake, awaited, awaits_own = None, None, False
        if status == "parked" and wait is not None:
            wake, awaited, awaits_own = wait.until, wait.signal, wait.own
        more = self.size // LARGE  # a large entry takes as long to read as many small ones
        connection.execute(_CHANGE, (status, more, wake, awaited, awaits_own, *self.outcome, run_id))
        if release:
            connection.execute(_RELEASE, (run_id,))
            if self.seq == 0:
                put_back(connection, run_id)
        if self.attributes is not None:
            write(connection, run_id, self.attributes, new=False)
        streams.add(connection, run_id, self.chunks)
        if consumed:
            consume(connection, run_id, consumed)
        if awaited is not None:
            mark_answered(connection, run_id)
        (tail,) = connection.execute("SELECT tail FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        if tail >= self.tails.every:
            fold(connection, run_id, self.tails)


def is_step(commit: Commit) -> bool:
    """Return whether `commit` is a plain step: one transition of a running run, and nothing but changes of data."""
    return commit.status is _RUNNING and commit.seq == commit.expected_seq + 1 and commit[_MORE] == _NOTHING_MORE


def remember(connection: sqlite3.Connection, tails: Tails, made: Iterable[tuple[Append, int]]) -> list[str]:
    """Add committed plain steps, with the ids of their entries, to the tails. Return the runs due for compaction."""
    due = []
    find = tails.find
    for append, head in made:
        run_id, seq = append.run_id, append.seq
        changed, removed, *_ = append.changes
        tail = find(run_id)
        if tail is None or not tail.add(head, seq - 1, append.token, seq, append.size, changed, removed):
            if _is_long(connection, tails, append, head):
                due.append(run_id)
        elif seq >= tail.due:
            due.append(run_id)
    return due


def _is_long(connection: sqlite3.Connection, tails: Tails, append: Append, head: int) -> bool:
    """Begin a new tail of the run without its changes. Return whether the run is due for compaction."""
    run_id = append.run_id
    tails.take(run_id)
    try:
        row = connection.execute("SELECT id, tail FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    except sqlite3.Error:
        if connection.in_transaction:
            raise
        return False  # the entry is on disk, so the commit must not fail for that
    if row is None:
        return False  # another process has deleted the run
    run, count = row
    tails.begin(run_id, run, head, None, append.seq, append.token)
    return bool(count >= tails.every)


def are_steps(jobs: Sequence[Job]) -> TypeGuard[Sequence[Append]]:
    """Return whether these are plain steps of different runs, and enough for a statement of their own."""
    if len(jobs) < FEWEST_STEPS:
        return False
    return len({job.run_id for job in jobs if job.plain}) == len(jobs)  # in one statement, the second of a run fails


class Made(NamedTuple):
    """The entries that a statement has written: their number, and the id of the last."""

    lines: int
    last: int


def step_all(connection: sqlite3.Connection, appends: Sequence[Append]) -> Made:
    """Apply plain steps with a single statement. It leaves out those that are stale."""
    size = -(-len(appends) // 10) * 10
    values: list[Any] = list(chain.from_iterable(map(_line_of, appends)))
    values += [-1] * (len(appends[0].line) * (size - len(appends)))  # padding: no run has this seq
    made = connection.execute(_steps(size), values)
    return Made(made.rowcount, made.lastrowid or 0)


def heads_of(connection: sqlite3.Connection, made: Made) -> dict[str, int]:
    """Return the runs whose steps `step_all` has applied, with the ids of their entries."""
    return dict(connection.execute(_MADE, made._asdict()) if made.lines else ())


@cache
def _steps(size: int) -> str:
    """Return `_STEP` for `size` runs. There are few sizes, so that each statement stays prepared."""
    return f"""
        INSERT INTO journal (run, prev, seq, status, state, at, packed)
        WITH line (state, at, changes, run_id, expected, token)
            AS (VALUES {", ".join(["(?, ?, ?, ?, ?, ?)"] * size)})
        SELECT runs.id, runs.head, line.expected + 1, 'running', line.state, line.at, line.changes
        FROM line CROSS JOIN runs
        WHERE runs.run_id = line.run_id AND runs.seq = line.expected AND runs.token = line.token
            AND runs.status = 'running'"""
