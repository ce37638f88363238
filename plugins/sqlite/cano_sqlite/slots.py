"""Slots of limits, and rates, for all processes: `SlotStore` says what they mean."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence

from cano import HeldSlot, SlotRequest
from cano_durability.stores.deciding import TOLD, VALID, Place, decide
from cano_msgspec.packing import stale

from cano_sqlite.news import note
from cano_sqlite.snapshot import fetch

_STANDS = "SELECT seq, token, holder IS NOT NULL FROM runs WHERE run_id = ?"
_FENCE = f"""
    UPDATE runs SET holder = NULL, expires = NULL, token = token + 1 WHERE run_id IN (
        SELECT runs.run_id FROM slots CROSS JOIN runs ON {VALID}
        WHERE slots.name = ? AND slots.run_id <> ? AND runs.expires < ?)"""
_CLEAN = f"DELETE FROM slots WHERE name = ? AND run_id <> ? AND NOT EXISTS (SELECT 1 FROM runs WHERE {VALID})"
_KEEP = "UPDATE slots SET token = ?, seq = ? WHERE name = ? AND run_id = ?"
_END_LOANS = """
    UPDATE slots SET lender = NULL WHERE name = ? AND lender IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM slots AS own WHERE own.name = slots.name AND own.run_id = slots.lender AND own.waits = 0)"""
_PLACES = "SELECT run_id, since, waits, lender FROM slots WHERE name = ?"
_RATE = "SELECT name, next_at FROM rates WHERE name = ?"
_DROP = "DELETE FROM slots WHERE name = ? AND run_id = ?"
_ADD = "INSERT INTO slots (name, run_id, token, seq, size, since, waits, lender) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_CUT_RATE = "UPDATE rates SET next_at = ?2 WHERE name = ?1 AND next_at > ?2"
_SET_RATE = "INSERT INTO rates VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET next_at = ?2"
_DROP_RATES = "DELETE FROM rates WHERE name IN (SELECT name FROM rates WHERE next_at <= ? ORDER BY next_at LIMIT 2)"
_GIVE = "DELETE FROM slots WHERE name = ? AND run_id = ? AND token = ?"
_WAITING = "SELECT run_id FROM slots WHERE name = ? AND waits = 1 ORDER BY since, run_id LIMIT ?"
LISTED = f"""
    SELECT slots.name, slots.size, slots.run_id, slots.since, slots.waits FROM slots CROSS JOIN runs ON {VALID}
    {{}} ORDER BY slots.name, slots.waits, slots.since, slots.run_id"""


def take(connection: sqlite3.Connection, request: SlotRequest, now: float, at: float | None) -> float:
    """Take all slots that are wanted, or none. Return 0.0, or the seconds after which to ask again."""
    run_id, token, seq, wanted, since, _ = request
    found = connection.execute(_STANDS, (run_id,)).fetchone()
    if found is None or found[1:] != (token, 1) or seq not in (None, found[0]):
        raise stale(run_id, seq or 0, token, found and found[:2])
    at = time.time() if at is None else at
    places = {each.name: _current(connection, each.name, request, now) for each in wanted}
    rates = dict[str, float]()
    for name, size, interval in wanted:
        if interval:
            connection.execute(_CUT_RATE, (name, at + size * interval))
            rates.update(fetch(connection, _RATE, (name,)))
    answer = decide(request, places, rates, at)
    for name, size, _ in wanted:
        if answer.blocked or name in answer.lenders or name in answer.rates:
            connection.execute(_DROP, (name, run_id))
        if name == answer.blocked:
            connection.execute(_ADD, (name, run_id, token, seq, size, since, 1, None))
        elif name in answer.lenders:
            connection.execute(_ADD, (name, run_id, token, seq, size, now, 0, answer.lenders[name]))
        elif name in answer.rates:
            connection.execute(_DROP_RATES, (at,))
            connection.execute(_SET_RATE, (name, answer.rates[name]))
    return answer.seconds


def _current(connection: sqlite3.Connection, name: str, request: SlotRequest, now: float) -> dict[str, Place]:
    """Delete the places of a limit that do not count, and return the others by run id."""
    run_id = request.run_id
    connection.execute(_FENCE, (name, run_id, now))
    connection.execute(_CLEAN, (name, run_id))
    connection.execute(_KEEP, (request.token, request.seq, name, run_id))
    connection.execute(_END_LOANS, (name,))
    rows = fetch(connection, _PLACES, (name,))
    return {each: Place(since, bool(waits), lender) for each, since, waits, lender in rows}


def give(connection: sqlite3.Connection, run_id: str, token: int, names: Sequence[str]) -> None:
    """Give back a run's slots of these limits, if it has them with this token. Notify those that wait longest."""
    for name in names:
        connection.execute(_GIVE, (name, run_id, token))
        for (waiting,) in fetch(connection, _WAITING, (name, TOLD)):
            note(connection, waiting)


def listed(connection: sqlite3.Connection, names: Sequence[str] | None) -> list[HeldSlot]:
    """Return the slots and requests of these limits, or of all."""
    if names is None:
        rows = fetch(connection, LISTED.format(""), ())
    else:
        rows = [
            row for name in sorted(set(names)) for row in fetch(connection, LISTED.format("WHERE name = ?"), (name,))
        ]
    return [HeldSlot(name, size, run_id, since, bool(waits)) for name, size, run_id, since, waits in rows]
