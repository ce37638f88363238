"""Commits: each appends an entry to the journal and updates one small row. One statement applies many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import getrandbits
from typing import Any

from cano import AuditEntry, Commit, RunStatus
from cano_msgspec.packing import LARGE, outcome_of, pack_changes, pack_extra, size_of

from cano_postgres import streams
from cano_postgres.arrays import Array, bigs, blobs, flags, integers, reals, texts
from cano_postgres.attributes import written
from cano_postgres.audit import committed
from cano_postgres.queues import PUT_BACK
from cano_postgres.signals import key_of
from cano_postgres.streams import size_of_all
from cano_postgres.work import Rows, Statement

# PostgreSQL compares seq and token; what this process remembers does not decide
_STEPS = """
    WITH given AS (
        SELECT * FROM unnest(%s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::text[], %s::float8[],
            %s::bigint[], %s::bytea[], %s::integer[])
            AS given (run_id, token, expected, seq, state, at, mark, changes, weight)
    ), made AS (
        UPDATE runs SET seq = given.seq, state = given.state, updated = given.at, head = runs.head + 1,
            tail = runs.tail + given.weight, status = 'running', wake = NULL, awaited = NULL, extra = NULL
        FROM given WHERE runs.run_id = given.run_id AND runs.seq = given.expected AND runs.token = given.token
        RETURNING runs.id, runs.head, runs.tail, given.*
    ), line AS (
        INSERT INTO journal (run, line, seq, state, status, at, mark, packed)
        SELECT id, head, seq, state, 'running', at, mark, changes FROM made
    )
    SELECT run_id, tail FROM made"""
_CHANGES = """
    WITH given AS (
        SELECT * FROM unnest(%s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::text[], %s::float8[],
            %s::bigint[], %s::bytea[], %s::integer[], %s::text[], %s::float8[], %s::bytea[], %s::boolean[],
            %s::bytea[], %s::boolean[])
            AS given (run_id, token, expected, seq, state, at, mark, changes, weight, status, wake, awaited, awaits_own,
                extra, release)
    ), made AS (
        UPDATE runs SET seq = given.seq, state = given.state, updated = given.at, head = runs.head + 1,
            tail = runs.tail + given.weight, status = given.status, wake = given.wake, awaited = given.awaited,
            awaits_own = given.awaits_own, extra = given.extra,
            holder = CASE WHEN given.release THEN NULL ELSE runs.holder END,
            expires = CASE WHEN given.release THEN NULL ELSE runs.expires END
        FROM given WHERE runs.run_id = given.run_id AND runs.seq = given.expected AND runs.token = given.token
        RETURNING runs.id, runs.head, runs.tail, given.*
    ), line AS (
        INSERT INTO journal (run, line, seq, state, status, at, mark, packed)
        SELECT id, head, seq, state, status, at, mark, changes FROM made
    ), taken AS (
        UPDATE signals SET consumed = true, payload = NULL
        FROM unnest(%s::text[], %s::boolean[], %s::bigint[], %s::bytea[]) AS consumed (run_id, own, addressee, id), made
        WHERE made.run_id = consumed.run_id AND signals.run_id = consumed.run_id AND signals.own = consumed.own
            AND signals.addressee = consumed.addressee AND sha256(signals.signal_id) = sha256(consumed.id)
    )
    SELECT run_id, tail FROM made"""
# after the commit in the same transaction: `head` is its entry, unless it was refused
_NOTE_ERROR = """
    UPDATE runs SET error = %s, cause = %s FROM journal
    WHERE journal.run = runs.id AND journal.line = runs.head AND journal.mark = %s AND runs.run_id = %s"""
_MADE = """
    SELECT 1 FROM runs JOIN journal ON journal.run = runs.id
    WHERE runs.run_id = %s AND journal.seq = %s AND journal.mark = %s"""
WHERE_THEY_STAND = "SELECT run_id, seq, token FROM runs WHERE run_id = ANY(%s)"


class Append:
    """The work of one commit. Its outcome is the length of the run's tail, or None if it was refused.

    Attributes:
        plain: whether it is a plain step, as most are: the run continues, without wait, signal or release.
        line: the fields of every commit.
        rest: the fields that most commits leave unset.
        consumed: the keys of the consumed signals, as columns have them.
        more: statements for the same transaction, which do nothing unless the commit is applied in it.
    """

    news = None

    __slots__ = ("awaits", "consumed", "line", "more", "plain", "rest", "run_id", "size")

    def __init__(self, commit: Commit, entry: AuditEntry | None = None) -> None:
        self.run_id = commit.run_id
        self.size = size = size_of(commit.changed) + size_of(commit.own)
        changes = pack_changes(commit.changed, commit.removed, commit.own, commit.own_removed)
        extra = pack_extra(commit.error, commit.wait, commit.payload)
        status, wait = commit.status, commit.wait if commit.status is RunStatus.PARKED else None
        self.consumed = [key_of(key) for key in commit.consumed_keys]
        weight = 1 + size // LARGE  # a large entry takes as long to read as many small ones
        self.line = (
            commit.run_id, commit.token, commit.expected_seq, commit.seq, commit.state, commit.at, getrandbits(63),
            changes, weight,
        )  # fmt: skip
        awaited = None if wait is None or wait.signal is None else wait.signal.encode()
        self.awaits = awaited is not None
        until, awaits_own = (None, False) if wait is None else (wait.until, wait.own)
        self.rest = (status.value, until, awaited, awaits_own, extra, commit.release)
        self.plain = status is RunStatus.RUNNING and extra is None and not commit.release and not self.consumed
        self.more: list[Statement] = []
        if status is RunStatus.FAILED:
            self.follow_with(
                (_NOTE_ERROR, (*outcome_of(status, commit.state, commit.error)[1:], self.mark, commit.run_id))
            )
        if commit.attributes is not None:
            self.follow_with(written(commit.run_id, self.mark, commit.attributes))
        if commit.chunks:
            self.follow_with(streams.committed(commit.run_id, self.mark, commit.chunks), size_of_all(commit.chunks))
        if commit.release and commit.seq == 0 and not status.finished:
            self.follow_with((PUT_BACK, (commit.run_id,)))
        if entry is not None:
            self.follow_with(committed(commit, self.mark, entry))

    @property
    def mark(self) -> int:
        """The mark of the commit's entry in the journal."""
        mark: int = self.line[6]
        return mark

    def follow_with(self, more: Statement, size: int = 0) -> None:
        """Add a statement to `more`, which writes `size` bytes."""
        self.plain = False  # the statement of plain steps does not wait for another
        self.more.append(more)
        self.size += size

    def statements(self, *, again: bool) -> Sequence[Statement]:
        """Return the commit, and `more`; before it, with `again`, a query whether it was applied."""
        made = [(_MADE, (self.run_id, self.line[3], self.mark))] if again else []
        return [*made, joined([self]), *self.more]

    def outcome(self, rows: Sequence[Rows], *, again: bool) -> int | None:
        """Return the length of the run's tail, or None."""
        if again and rows[0]:
            return 0
        return next((tail for _, tail in rows[1 if again else 0]), None)


def joined(appends: Sequence[Append]) -> Statement:
    """Return the statement for commits of different runs."""
    columns = _packed(_LINE, [append.line for append in appends])
    if all(append.plain for append in appends):
        return _STEPS, columns
    consumed = [(append.run_id, *signal) for append in appends for signal in append.consumed]
    return _CHANGES, [*columns, *_packed(_REST, [append.rest for append in appends]), *_packed(_CONSUMED, consumed)]


def _packed(kinds: Sequence[Callable[[Sequence[Any]], Array]], rows: Sequence[Sequence[Any]]) -> list[Array]:
    columns = zip(*rows, strict=True) if rows else [()] * len(kinds)
    return [pack(column) for pack, column in zip(kinds, columns, strict=True)]


_LINE = texts, bigs, bigs, bigs, texts, reals, bigs, blobs, integers
_REST = texts, reals, blobs, flags, blobs, flags
_CONSUMED = texts, flags, bigs, blobs
