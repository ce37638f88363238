"""Creating and deleting runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from zlib import crc32

from cano import RunRecord, RunStatus
from cano_durability.stores.lanes import columns_of
from cano_msgspec.packing import LARGE, outcome_of, pack_changes, pack_extra, size_of

from cano_postgres.arrays import blobs, texts
from cano_postgres.work import Rows, Statement

_CREATE = """
    WITH made AS (
        INSERT INTO runs (run_id, workflow, version, fingerprint, parent, created, updated, state, status, seq, head,
            folded, tail, holder, expires, token, wake, awaited, awaits_own, extra, error, cause, queue,
            priority, key, class, due)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 1, 0, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s,
            %s)
        ON CONFLICT (run_id) DO NOTHING RETURNING id, seq, state, status, created
    )
    INSERT INTO journal (run, line, seq, state, status, at, packed)
    SELECT id, 1, seq, state, status, created, %s FROM made RETURNING run"""
_CREATE_WITH_ATTRIBUTES = _CREATE.replace(
    """
    )
    INSERT INTO journal""",
    """
    ), found AS (
        INSERT INTO attributes (run, name, value, created)
        SELECT made.id, given.name, given.value, made.created
        FROM made, unnest(%s::text[], %s::bytea[]) AS given (name, value)
    )
    INSERT INTO journal""",
)
# lock the row first: then the next statement sees every commit
_LOCK = "SELECT 1 FROM runs WHERE run_id = %s FOR UPDATE"
_FORGET = """
    WITH gone AS (DELETE FROM runs WHERE run_id = %s RETURNING id),
        signals AS (DELETE FROM signals WHERE run_id = %s),
        lines AS (DELETE FROM journal USING gone WHERE journal.run = gone.id),
        data AS (DELETE FROM snapshot USING gone WHERE snapshot.run = gone.id),
        found AS (DELETE FROM attributes USING gone WHERE attributes.run = gone.id),
        streams AS (DELETE FROM chunks USING gone WHERE chunks.run = gone.id)
    SELECT id FROM gone"""


class Create:
    """The work of creating a run. Its outcome is whether it is new."""

    def __init__(self, run: RunRecord, every: int) -> None:
        self.run_id = run.run_id
        self.news = run.run_id if run.holder is None else None
        self.size = size_of(run.data) + size_of(run.own)
        wait = run.wait if run.status is RunStatus.PARKED else None
        wake, awaited, awaits_own = (None, None, False) if wait is None else (wait.until, wait.signal, wait.own)
        # runs that step together are compacted at different steps
        tail = 1 + self.size // LARGE + crc32(run.run_id.encode()) % every // 2
        self.awaits = awaited is not None
        status, wake, lane = columns_of(run, wake)
        row: tuple[Any, ...] = (
            run.run_id, run.workflow, run.version, run.fingerprint, run.parent, run.created, run.updated, run.state,
            status, run.seq, tail, run.holder, run.expires, run.token, wake,
            None if awaited is None else awaited.encode(), awaits_own, pack_extra(run.error, run.wait, run.payload),
            *outcome_of(run.status, run.state, run.error)[1:],
        )  # fmt: skip
        found = (texts(run.attributes), blobs(run.attributes.values())) if run.attributes else ()
        statement = _CREATE_WITH_ATTRIBUTES if found else _CREATE
        self._create: Statement = statement, (*row, *lane, *found, pack_changes(run.data, (), run.own))

    def statements(self, *, again: bool) -> Sequence[Statement]:
        """Return the insertion, which may be repeated: then the id exists."""
        return [self._create]

    def outcome(self, rows: Sequence[Rows], *, again: bool) -> bool:
        """Return whether the run is new."""
        return bool(rows[0])


class Delete:
    """The work of deleting a run with its journal, snapshot and signals. Its outcome is whether the run existed.

    Args:
        run_id: the run's id.
        there: whether the run existed before, which is the outcome if the answer is lost.
    """

    size = 0
    awaits = False

    def __init__(self, run_id: str, there: bool) -> None:
        self.run_id = self.news = run_id
        self._there = there

    def statements(self, *, again: bool) -> Sequence[Statement]:
        """Return the deletion, which may be repeated."""
        return [(_LOCK, (self.run_id,)), (_FORGET, (self.run_id, self.run_id))]

    def outcome(self, rows: Sequence[Rows], *, again: bool) -> bool:
        """Return whether the run existed."""
        return bool(rows[1]) or (again and self._there)
