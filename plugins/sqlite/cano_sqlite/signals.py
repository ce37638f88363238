"""Signals: stored until a commit consumes them. Their ids are kept as long as the run."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from cano import Signal, Signals
from cano_msgspec.packing import unreadable

from cano_sqlite.schema import DUE
from cano_sqlite.snapshot import fetch

_PUT = """
    INSERT INTO signals (run_id, own, signal, name, payload) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (run_id, own, signal) DO NOTHING"""
_WAITING = "SELECT count(*) FROM (SELECT 1 FROM signals WHERE run_id = ? AND consumed = 0 AND own = 0 LIMIT ?)"
_KNOWN = "SELECT 1 FROM signals WHERE run_id = ? AND own = ? AND signal = ?"
ANSWERED = f"""
    UPDATE runs SET wake = {DUE} WHERE run_id = ? AND status = 'parked' AND EXISTS (
        SELECT 1 FROM signals
        WHERE signals.run_id = runs.run_id AND signals.name = runs.awaited AND signals.own = runs.awaits_own
            AND consumed = 0)"""
OLDEST = """
    SELECT signal, name, payload, own FROM signals
    WHERE run_id = ? AND name = ? AND own = ? AND consumed = 0 ORDER BY id LIMIT 1"""
_EVERY = "SELECT signal, name, payload, own, consumed FROM signals WHERE run_id = ? ORDER BY id"
_RECIPIENTS = "SELECT DISTINCT run_id FROM signals WHERE run_id NOT IN (SELECT run_id FROM runs)"
_REWRITE = "UPDATE signals SET payload = ? WHERE run_id = ? AND own = ? AND signal = ? AND consumed = 0"
_CONSUME = "UPDATE signals SET consumed = 1, payload = NULL WHERE run_id = ? AND own = ? AND signal = ?"


def put(connection: sqlite3.Connection, run_id: str, signal: Signal, most: int | None = None) -> bool | None:
    """Store a signal, unless the run already got one with this id. Return whether it is new.

    If `most` is given and `most` signals of users wait for the run, store nothing and return None.
    """
    if most is not None and fetch(connection, _WAITING, (run_id, most)) == [(most,)]:
        return False if fetch(connection, _KNOWN, (run_id, signal.own, signal.id)) else None
    made = connection.execute(_PUT, (run_id, signal.own, signal.id, signal.name, signal.payload))
    mark_answered(connection, run_id)
    return made.rowcount == 1


def mark_answered(connection: sqlite3.Connection, run_id: str) -> None:
    """Let `ready` find a parked run if its signal is there. Call it after the run was parked or got a signal."""
    connection.execute(ANSWERED, (run_id,))


def rewrite(connection: sqlite3.Connection, run_id: str, signals: Sequence[Signal]) -> None:
    """Replace the payloads of those of these signals that wait."""
    connection.executemany(_REWRITE, [(each.payload, run_id, each.own, each.id) for each in signals])


def oldest(connection: sqlite3.Connection, run_id: str, name: str, own: bool) -> Signal | None:
    """Return the oldest unconsumed signal of that name, or None."""
    rows = fetch(connection, OLDEST, (run_id, name, own))
    return _checked(run_id, *rows[0]) if rows else None


def every(connection: sqlite3.Connection, run_id: str) -> Signals:
    """Return all signals sent to the run."""
    waiting: list[Signal] = []
    consumed: tuple[list[str], list[str]] = [], []
    for *columns, gone in fetch(connection, _EVERY, (run_id,)):
        signal = _checked(run_id, *columns)
        if gone:
            consumed[signal.own].append(signal.id)
        else:
            waiting.append(signal)
    return Signals(waiting, *consumed)


def missing_recipients(connection: sqlite3.Connection) -> list[str]:
    """Return the ids that got signals but have no run."""
    return [run_id for (run_id,) in fetch(connection, _RECIPIENTS, ()) if isinstance(run_id, str)]


def _checked(run_id: str, id: Any, name: Any, payload: Any, own: Any) -> Signal:
    texts = isinstance(id, str) and isinstance(name, str)
    if not texts or not isinstance(payload, bytes | None) or own not in (0, 1):
        raise unreadable(run_id, f"its signal {id!r} is corrupt")
    return Signal(id, name, payload, bool(own))


def consume(connection: sqlite3.Connection, run_id: str, signal: str, own: bool) -> None:
    """Mark a signal as consumed, if it exists."""
    connection.execute(_CONSUME, (run_id, own, signal))
