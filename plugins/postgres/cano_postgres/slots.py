"""Slots of limits, and rates, for all processes: `SlotStore` says what they mean.

One transaction decides on a request. It holds a lock of each limit that it names, so that the places of a limit change
only there, and by deletions. It waits for no row of `runs`.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from cano import HeldSlot, SlotRequest
from cano_durability.stores.deciding import TOLD, VALID, Place, decide
from cano_msgspec.packing import stale

from cano_postgres.arrays import bigs, texts
from cano_postgres.connection import Connection

# in the order of the numbers, as in each transaction that takes several
_LOCK = "SELECT pg_advisory_xact_lock(key) FROM (SELECT key FROM unnest(%s::bigint[]) AS key ORDER BY key) AS ordered"
_STANDS = (
    "SELECT seq, token, holder IS NOT NULL, extract(epoch FROM clock_timestamp())::float8 FROM runs WHERE run_id = %s"
)
_FENCE = f"""
    UPDATE runs SET holder = NULL, expires = NULL, token = token + 1 WHERE id = ANY(ARRAY(
        SELECT runs.id FROM slots JOIN runs ON {VALID}
        WHERE slots.name = ANY(%s) AND slots.run_id <> %s AND runs.expires < %s FOR UPDATE OF runs SKIP LOCKED))"""
_CLEAN = f"""
    DELETE FROM slots WHERE name = ANY(%s) AND run_id <> %s AND NOT EXISTS (SELECT FROM runs WHERE {VALID})"""
_KEEP = "UPDATE slots SET token = %s, seq = %s WHERE name = ANY(%s) AND run_id = %s"
_END_LOANS = """
    UPDATE slots SET lender = NULL WHERE name = ANY(%s) AND lender IS NOT NULL AND NOT EXISTS (
        SELECT FROM slots AS own WHERE own.name = slots.name AND own.run_id = slots.lender AND NOT own.waits)"""
_PLACES = "SELECT name, run_id, since, waits, lender FROM slots WHERE name = ANY(%s)"
_RATES = "SELECT name, next_at FROM rates WHERE name = ANY(%s)"
_DROP = "DELETE FROM slots WHERE name = ANY(%s) AND run_id = %s"
_ADD = """
    INSERT INTO slots (name, run_id, token, seq, size, since, waits, lender) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"""
_CUT_RATE = "UPDATE rates SET next_at = %s WHERE name = %s AND next_at > %s"
_SET_RATE = "INSERT INTO rates VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET next_at = excluded.next_at"
_DROP_RATES = """
    DELETE FROM rates WHERE name = ANY(ARRAY(
        SELECT name FROM rates WHERE next_at <= %s ORDER BY next_at LIMIT 2 FOR UPDATE SKIP LOCKED))
        AND name <> ALL(%s)"""
_GIVE = "DELETE FROM slots WHERE name = %s AND run_id = %s AND token = %s"
_WAITING = "SELECT run_id FROM slots WHERE name = %s AND waits ORDER BY since, run_id LIMIT %s"
LISTED = f"""
    SELECT slots.name, slots.size, slots.run_id, slots.since, slots.waits FROM slots JOIN runs ON {VALID}
    WHERE %s::text[] IS NULL OR slots.name = ANY(%s::text[])
    ORDER BY slots.name, slots.waits, slots.since, slots.run_id"""


async def take(connection: Connection, schema: str, request: SlotRequest, now: float, at: float | None) -> float:
    """Take all slots that are wanted, or none. Return 0.0, or the seconds after which to ask again."""
    run_id, token, seq, wanted, since, _ = request
    names = texts([each.name for each in wanted])
    async with connection.transaction():
        await connection.execute(_LOCK, (bigs([_number(schema, each.name) for each in wanted]),))
        found = await (await connection.execute(_STANDS, (run_id,), binary=True)).fetchone()
        if found is None or found[1:3] != (token, True) or seq not in (None, found[0]):
            raise stale(run_id, seq or 0, token, found and found[:2])
        at = found[3] if at is None else at
        async with connection.pipeline():
            await connection.execute(_FENCE, (names, run_id, now))
            await connection.execute(_CLEAN, (names, run_id))
            await connection.execute(_KEEP, (token, seq, names, run_id))
            await connection.execute(_END_LOANS, (names,))
            rows = await connection.execute(_PLACES, (names,), binary=True)
            for name, size, interval in wanted:
                if interval:
                    latest = at + size * interval
                    await connection.execute(_CUT_RATE, (latest, name, latest))
            known = await connection.execute(_RATES, (names,), binary=True)
        places: dict[str, dict[str, Place]] = {each.name: {} for each in wanted}
        for name, id, *place in await rows.fetchall():
            places[name][id] = Place(*place)
        answer = decide(request, places, dict(await known.fetchall()), at)
        gone = [name for name, *_ in wanted if answer.blocked or name in answer.lenders or name in answer.rates]
        async with connection.pipeline():
            await connection.execute(_DROP, (texts(gone), run_id))
            for name, size, _ in wanted:
                if name == answer.blocked:
                    await connection.execute(_ADD, (name, run_id, token, seq, size, since, True, None))
                elif name in answer.lenders:
                    await connection.execute(_ADD, (name, run_id, token, seq, size, now, False, answer.lenders[name]))
                elif name in answer.rates:
                    await connection.execute(_SET_RATE, (name, answer.rates[name]))
                    await connection.execute(_DROP_RATES, (at, names))
    return answer.seconds


async def give(connection: Connection, run_id: str, token: int, names: Sequence[str]) -> list[str]:
    """Give back a run's slots of these limits, if it has them with this token. Return the runs to notify."""
    waiting: list[str] = []
    for name in names:  # each alone: a transaction that locks several rows could wait for one that takes slots
        await connection.execute(_GIVE, (name, run_id, token))
        waiting += [each for (each,) in await (await connection.execute(_WAITING, (name, TOLD))).fetchall()]
    return waiting


async def listed(connection: Connection, names: Sequence[str] | None) -> list[HeldSlot]:
    """Return the slots and requests of these limits, or of all."""
    wanted = None if names is None else texts(names)
    return [
        HeldSlot(*row) for row in await (await connection.execute(LISTED, (wanted, wanted), binary=True)).fetchall()
    ]


def _number(schema: str, name: str) -> int:
    """Return the number of a limit's lock. Limits with one number only wait for each other."""
    return int.from_bytes(sha256(f"cano slots {schema} {name}".encode()).digest()[:8], "big", signed=True)
