"""Signals: kept until a commit consumes them, and known by their id ever after."""

from __future__ import annotations

import sqlite3

from cano import Signal

from cano_sqlite.failures import unreadable

_PUT = """
    INSERT INTO signals (run_id, signal, name, payload) VALUES (?, ?, ?, ?)
    ON CONFLICT (run_id, signal) DO NOTHING"""
_OLDEST = """
    SELECT signal, name, payload FROM signals
    WHERE run_id = ? AND name = ? AND consumed = 0 ORDER BY id LIMIT 1"""
_CONSUME = "UPDATE signals SET consumed = 1, payload = NULL WHERE run_id = ? AND signal = ?"


def put(connection: sqlite3.Connection, run_id: str, signal: Signal) -> None:
    """Keep a signal, unless one of its id was sent to the run before."""
    connection.execute(_PUT, (run_id, signal.id, signal.name, signal.payload))


def oldest(connection: sqlite3.Connection, run_id: str, name: str) -> Signal | None:
    """The oldest signal of that name that no commit has consumed."""
    row = connection.execute(_OLDEST, (run_id, name)).fetchone()
    if row is None:
        return None
    id, name, payload = row
    if not isinstance(id, str) or not isinstance(payload, bytes | None):
        raise unreadable(run_id, f"its signal {id!r} is damaged")
    return Signal(id, name, payload)


def consume(connection: sqlite3.Connection, run_id: str, signal: str) -> None:
    """Mark a signal as consumed, if it is there."""
    connection.execute(_CONSUME, (run_id, signal))
