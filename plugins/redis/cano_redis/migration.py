"""Migrates the keys of an earlier schema."""

from __future__ import annotations

from cano_msgspec.packing import Changes, DamagedError, apart
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from cano_redis import scripts
from cano_redis.failures import code
from cano_redis.packing import ask, pack_line, unpack_line
from cano_redis.settings import Settings

SCHEMA = 5
_PAGE = 256
_MOVED = b"a later version of cano-redis has migrated the store; upgrade this one"


async def migrate(connection: AbstractConnection, settings: Settings, schema: int) -> None:
    """Migrate a store of an earlier schema. Repeated, or by several processes, it does no harm.

    Each run is migrated at once. From then on, processes of the earlier version can no longer write to it. Schema 3
    differs only in that no value is in parts, which its processes could not read. In schema 4, the ids of signals to a
    wait had its seq.
    """
    keys = settings.keys
    if schema < 3:
        await _migrate_runs(connection, keys)
    ids = await ask(connection, "HKEYS", keys + b"numbers")
    for id in [*ids, *await ask(connection, "SMEMBERS", keys + b"orphans")]:
        try:
            await ask(connection, "EVALSHA", scripts.ADDRESS.sha, 1, keys + b"run:" + id, keys, id)
        except ResponseError as error:
            if code(error) != "WRONGTYPE":  # another program has replaced a key; `load` reports that
                raise
    await ask(connection, "SET", keys + b"schema", SCHEMA)


async def _migrate_runs(connection: AbstractConnection, keys: bytes) -> None:
    ids = await ask(connection, "EVALSHA", scripts.MOVE_NUMBERS.sha, 1, keys + b"ids", keys, _MOVED)
    for id in [*ids, *await ask(connection, "SMEMBERS", keys + b"orphans")]:
        try:
            await _migrate(connection, keys, id)
        except ResponseError as error:
            if code(error) != "WRONGTYPE":  # another program has replaced a key; `load` reports that
                raise


async def _migrate(connection: AbstractConnection, keys: bytes, id: bytes) -> None:
    """Migrate one run or recipient."""
    await ask(connection, "EVALSHA", scripts.APART.sha, 1, keys + b"run:" + id, keys, id)  # its history ends now
    at, lines = 0, [b""]
    while lines:
        lines = await ask(connection, "LRANGE", keys + b"lines:" + id, at, at + _PAGE - 1)
        changed = [each for place, line in enumerate(lines, at) for each in _changed(place, line)]
        await ask(connection, "EVALSHA", scripts.APART.sha, 1, keys + b"run:" + id, keys, id, *changed)
        at += _PAGE


def _changed(place: int, line: bytes) -> list[bytes]:
    """Return the place of an entry, its text, and the text that replaces it; nothing if it stays."""
    try:
        seq, body = unpack_line(line)
    except DamagedError:
        return []  # it stays, for `history` to report it
    if body is None or (changes := Changes(*body[3:])) == (moved := apart(changes)):
        return []
    return [b"%d" % place, line, pack_line(line[:16], seq, body.state, body.status, body.at, moved)]
