"""Signals: stored until a commit consumes them. Their ids are kept as long as the run."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from cano import Signal, SignalKey, Signals
from cano_msgspec.packing import unreadable

from cano_sqlite.schema import ANY, DUE
from cano_sqlite.snapshot import fetch

_PUT = """
    INSERT INTO signals (run_id, own, addressee, signal_id, name, payload) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (run_id, own, addressee, signal_id) DO NOTHING"""
_WAITING = "SELECT count(*) FROM (SELECT 1 FROM signals WHERE run_id = ? AND consumed = 0 AND own = 0 LIMIT ?)"
_THIS = "run_id = ? AND own = ? AND addressee = ? AND signal_id = ?"
_KNOWN = f"SELECT 1 FROM signals WHERE {_THIS}"
ANSWERED = f"""
    UPDATE runs SET wake = {DUE} WHERE run_id = ? AND status = 'parked' AND EXISTS (
        SELECT 1 FROM signals
        WHERE signals.run_id = runs.run_id AND signals.name = runs.awaited AND signals.own = runs.awaits_engine
            AND consumed = 0)"""
OLDEST = """
    SELECT signal_id, name, payload, own, addressee FROM signals
    WHERE run_id = ? AND name = ? AND own = ? AND consumed = 0 ORDER BY id LIMIT 1"""
_EVERY = "SELECT signal_id, name, payload, own, addressee, consumed FROM signals WHERE run_id = ? ORDER BY id"
_RECIPIENTS = "SELECT DISTINCT run_id FROM signals WHERE run_id NOT IN (SELECT run_id FROM runs)"
_REWRITE = f"UPDATE signals SET payload = ? WHERE {_THIS} AND consumed = 0"
_CONSUME = f"UPDATE signals SET consumed = 1, payload = NULL WHERE {_THIS}"


def put(connection: sqlite3.Connection, run_id: str, signal: Signal, most: int | None = None) -> bool | None:
    """Store a signal, unless the run already got one with this id. Return whether it is new.

    If `most` is given and `most` signals of users wait for the run, store nothing and return None.
    """
    if most is not None and fetch(connection, _WAITING, (run_id, most)) == [(most,)]:
        return False if fetch(connection, _KNOWN, (run_id, *key_of(signal.key))) else None
    made = connection.execute(_PUT, (run_id, *key_of(signal.key), signal.name, signal.payload))
    mark_answered(connection, run_id)
    return made.rowcount == 1


def mark_answered(connection: sqlite3.Connection, run_id: str) -> None:
    """Let `ready` find a parked run if its signal is there. Call it after the run was parked or got a signal."""
    connection.execute(ANSWERED, (run_id,))


def rewrite(connection: sqlite3.Connection, run_id: str, signals: Sequence[Signal]) -> None:
    """Replace the payloads of those of these signals that wait."""
    connection.executemany(_REWRITE, [(each.payload, run_id, *key_of(each.key)) for each in signals])


def oldest(connection: sqlite3.Connection, run_id: str, name: str, own: bool) -> Signal | None:
    """Return the oldest unconsumed signal of that name, or None."""
    rows = fetch(connection, OLDEST, (run_id, name, own))
    return _checked(run_id, *rows[0]) if rows else None


def every(connection: sqlite3.Connection, run_id: str) -> Signals:
    """Return all signals sent to the run."""
    waiting: list[Signal] = []
    consumed: list[SignalKey] = []
    for *columns, gone in fetch(connection, _EVERY, (run_id,)):
        signal = _checked(run_id, *columns)
        if gone:
            consumed.append(signal.key)
        else:
            waiting.append(signal)
    return Signals.of(waiting, consumed)


def missing_recipients(connection: sqlite3.Connection) -> list[str]:
    """Return the ids that got signals but have no run."""
    return [run_id for (run_id,) in fetch(connection, _RECIPIENTS, ()) if isinstance(run_id, str)]


def _checked(run_id: str, id: Any, name: Any, payload: Any, own: Any, addressee: Any) -> Signal:
    texts = isinstance(id, str) and isinstance(name, str)
    if not texts or not isinstance(payload, bytes | None) or own not in (0, 1) or not isinstance(addressee, int):
        raise unreadable(run_id, f"its signal {id!r} is corrupt")
    return Signal(id, name, payload, bool(own), None if addressee == ANY else addressee)


def consume(connection: sqlite3.Connection, run_id: str, consumed: Iterable[SignalKey]) -> None:
    """Mark those of these signals as consumed that exist."""
    connection.executemany(_CONSUME, [(run_id, *key_of(key)) for key in consumed])


def key_of(key: SignalKey) -> SignalKey:
    """Return a signal's key as its columns have it. A NULL would differ from itself in a unique index."""
    own, to, id = key
    return own, ANY if to is None else to, id
