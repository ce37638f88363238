"""Creating and deleting runs."""

from __future__ import annotations

import sqlite3
from typing import Any

from cano import RunRecord, RunStatus
from cano_durability.stores.lanes import columns_of
from cano_msgspec.packing import LARGE, outcome_of, pack_changes, pack_extra, size_of

from cano_sqlite.attributes import write
from cano_sqlite.failures import check_size
from cano_sqlite.job import Job
from cano_sqlite.news import note
from cano_sqlite.pruning import forget
from cano_sqlite.reading import load
from cano_sqlite.signals import mark_answered
from cano_sqlite.tails import Tails

_CREATE = """
    INSERT INTO runs (run_id, parent, created, updated, status, seq, head, folded, tail, holder, expires, token, wake,
        awaited, awaits_engine, outcome, error, cause, queue, priority, key, class, due)
    VALUES (?, ?, ?, ?, ?, ?, 0, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (run_id) DO NOTHING"""
_DEFINE = """
    INSERT OR REPLACE INTO definitions (run, workflow, version, fingerprint, created) VALUES (?, ?, ?, ?, ?)"""
_FIRST_LINE = """
    INSERT INTO journal (run, prev, seq, state, status, at, extra, packed) VALUES (?, 0, ?, ?, ?, ?, ?, ?)"""


class Create(Job):
    """The job of creating a run. It packs or copies the record at once, since the caller may change it afterwards."""

    def __init__(self, run: RunRecord, tails: Tails) -> None:
        self.changes = changes = dict(run.data), (), dict(run.own), ()
        extra = pack_extra(run.error, run.wait, run.payload)
        wait = run.wait if run.status is RunStatus.PARKED else None
        wake, awaited, awaits_own = (None, None, False) if wait is None else (wait.until, wait.signal, wait.own)
        self.given = run
        self.run_id = run.run_id
        self.tails = tails
        self.size = size_of(run.data) + size_of(run.own)
        check_size(self.size, run.data, run.run_id)
        self.packed = pack_changes(*changes) if self.size < LARGE else b""  # the thread packs large data
        status, wake, lane = columns_of(run, wake)
        self.row = (
            run.run_id, run.parent, run.created, run.updated, status, run.seq, self.size // LARGE, run.holder,
            run.expires, run.token, wake, awaited, awaits_own, *outcome_of(run.status, run.state, run.error), *lane,
        )  # fmt: skip
        self.line = (run.seq, run.state, run.status.value, run.created, extra)

    def do(self, connection: sqlite3.Connection) -> RunRecord:
        """Return the given run, or the existing run with its id."""
        made = connection.execute(_CREATE, self.row)
        if made.rowcount != 1:
            self.tails.take(self.given.run_id)
            there = load(connection, self.given.run_id)
            assert there is not None  # otherwise the insert would have succeeded
            return there
        run: Any = made.lastrowid
        given = self.given
        connection.execute(_DEFINE, (run, given.workflow, given.version, given.fingerprint, given.created))
        if given.attributes:
            write(connection, given.run_id, given.attributes, new=True)
        if given.status is RunStatus.PARKED:
            mark_answered(connection, given.run_id)
        packed = self.packed if self.size < LARGE else pack_changes(*self.changes)
        head: Any = connection.execute(_FIRST_LINE, (run, *self.line, packed)).lastrowid
        connection.execute("UPDATE runs SET updated = ? WHERE id = ?", (self.given.updated, run))
        folded = None if self.size >= LARGE or self.given.own else 0  # a tail has no value of the engine's own
        seq, token = self.given.seq, self.given.token
        tail = self.tails.begin(self.given.run_id, run, head, folded, seq, token)
        tail.add(head, seq, token, seq, self.size, *self.changes[:2])
        return self.given


def delete(connection: sqlite3.Connection, run_id: str, tails: Tails) -> bool:
    """Delete a run with its journal, snapshot and signals. Return whether it existed."""
    tails.take(run_id)
    signals = connection.execute("DELETE FROM signals WHERE run_id = ?", (run_id,)).rowcount
    row = connection.execute("SELECT id FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    if row is None:
        if signals:
            note(connection, None)  # as in `forget`
        return False
    forget(connection, row)
    note(connection, run_id)
    return True
