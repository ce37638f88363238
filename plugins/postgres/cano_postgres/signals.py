"""Signals: stored until a commit consumes them. Their ids are kept as long as the run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import LiteralString

from cano import Signal, SignalKey, Signals
from cano_msgspec.packing import payload_bytes, unreadable

from cano_postgres.connection import Connection
from cano_postgres.schema import ANY
from cano_postgres.work import Rows, Statement

_PUT = """
    INSERT INTO signals (run_id, own, addressee, signal_id, name, payload) VALUES (%s, %s, %s, %s, %s, %s)
    ON CONFLICT (run_id, own, addressee, sha256(signal_id)) DO NOTHING"""
_PUT_WITHIN = """
    INSERT INTO signals (run_id, own, addressee, signal_id, name, payload)
    SELECT %s::text, %s::boolean, %s::bigint, %s::bytea, %s::bytea, %s::bytea WHERE %s > (
        SELECT count(*) FROM (
            SELECT FROM signals WHERE run_id = %s AND NOT consumed AND NOT own LIMIT %s
        ) AS waiting)
    ON CONFLICT (run_id, own, addressee, sha256(signal_id)) DO NOTHING"""
THIS: LiteralString = "run_id = %s AND own = %s AND addressee = %s AND sha256(signal_id) = sha256(%s)"
_KNOWN: LiteralString = f"SELECT EXISTS (SELECT FROM signals WHERE {THIS})"
LOCK = """
    SELECT pg_advisory_xact_lock(key) FROM (
        SELECT DISTINCT hashtextextended(run_id, 0) AS key FROM unnest(%s::text[]) AS run_id ORDER BY key OFFSET 0
    ) AS keys"""
ANSWERED = """
    UPDATE runs SET wake = '-Infinity' WHERE run_id = ANY(%s) AND status = 'parked' AND EXISTS (
        SELECT FROM signals
        WHERE signals.run_id = runs.run_id AND (signals.name, signals.own) = (runs.awaited, runs.awaits_own)
            AND NOT consumed)"""
"""Lets `ready` find the parked runs whose signal is there.

A transaction that stores a signal, or parks a run until one comes, begins with LOCK and ends with this statement. So of
two such transactions for one run, which may not exist yet, the second sees what the first has done.
"""
OLDEST = """
    SELECT signal_id, name, payload, own, addressee FROM signals
    WHERE run_id = %s AND name = %s AND own = %s AND NOT consumed ORDER BY id LIMIT 1"""

_REWRITE = """
    UPDATE signals SET payload = given.payload
    FROM unnest(%s::boolean[], %s::bigint[], %s::bytea[], %s::bytea[]) AS given (own, addressee, id, payload)
    WHERE run_id = %s AND signals.own = given.own AND signals.addressee = given.addressee
        AND sha256(signals.signal_id) = sha256(given.id) AND NOT consumed"""
_EVERY = "SELECT signal_id, name, payload, own, addressee, consumed FROM signals WHERE run_id = %s ORDER BY id"
_RECIPIENTS = """
    SELECT DISTINCT run_id FROM signals
    WHERE NOT EXISTS (SELECT FROM runs WHERE runs.run_id = signals.run_id)"""


def key_of(key: SignalKey) -> tuple[bool, int, bytes]:
    """Return a signal's key as its columns have it. A NULL would differ from itself in a unique index."""
    own, to, id = key
    return own, ANY if to is None else to, id.encode()


class Put:
    """The work of storing a signal, unless the run already got one with its id. Its outcome is whether it is there.

    If `most` is given and `most` signals of users wait for the run, it is not stored. LOCK keeps other
    transactions from storing signals of the run meanwhile.
    """

    awaits = True

    def __init__(self, run_id: str, signal: Signal, most: int | None = None) -> None:
        payload = payload_bytes(signal.payload)
        self.run_id = self.news = run_id
        self.size = len(payload or b"")
        key = run_id, *key_of(signal.key)
        values = *key, signal.name.encode(), payload
        self._put: list[Statement] = [(_PUT, values)]
        if most is not None:
            self._put = [(_PUT_WITHIN, (*values, most, run_id, most)), (_KNOWN, key)]

    def statements(self, *, again: bool) -> Sequence[Statement]:
        """Return the insertion, which may be repeated: then the id exists."""
        return self._put

    def outcome(self, rows: Sequence[Rows], *, again: bool) -> bool:
        """Return whether the signal is there."""
        return len(rows) == 1 or bool(rows[1][0][0])


class Rewrite:
    """The work of replacing the payloads of those of these signals that wait."""

    news = None
    awaits = False

    def __init__(self, run_id: str, signals: Sequence[Signal]) -> None:
        payloads = [payload_bytes(signal.payload) for signal in signals]
        self.run_id = run_id
        self.size = sum(len(payload or b"") for payload in payloads)
        keys = [key_of(signal.key) for signal in signals]
        self._values = *([key[at] for key in keys] for at in range(3)), payloads, run_id

    def statements(self, *, again: bool) -> Sequence[Statement]:
        """Return the update, which may be repeated."""
        return [(_REWRITE, self._values)]

    def outcome(self, rows: Sequence[Rows], *, again: bool) -> None:
        """Return None."""


async def oldest(connection: Connection, run_id: str, name: str, own: bool) -> Signal | None:
    """Return the oldest unconsumed signal of that name, or None."""
    cursor = await connection.execute(OLDEST, (run_id, name.encode(), own), binary=True)
    row = await cursor.fetchone()
    return None if row is None else _read(run_id, *row)


async def every(connection: Connection, run_id: str) -> Signals:
    """Return all signals sent to the run."""
    waiting: list[Signal] = []
    consumed: list[SignalKey] = []
    cursor = await connection.execute(_EVERY, (run_id,), binary=True)
    for *columns, gone in await cursor.fetchall():
        signal = _read(run_id, *columns)
        if gone:
            consumed.append(signal.key)
        else:
            waiting.append(signal)
    return Signals.of(waiting, consumed)


async def missing_recipients(connection: Connection) -> list[str]:
    """Return the ids that got signals but have no run."""
    return [run_id for (run_id,) in await (await connection.execute(_RECIPIENTS)).fetchall()]


def _read(run_id: str, signal: bytes, name: bytes, payload: bytes | None, own: bool, addressee: int) -> Signal:
    """Return the signal in a row. Raise SerializationError if the row is corrupt."""
    try:
        return Signal(signal.decode(), name.decode(), payload, own, None if addressee == ANY else addressee)
    except UnicodeDecodeError as error:
        raise unreadable(run_id, f"its signal {signal!r} is corrupt") from error
