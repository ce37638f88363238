"""Migrates the keys of an earlier schema."""

from __future__ import annotations

from cano_msgspec.packing import Changes, DamagedError, apart
from redis.asyncio.connection import AbstractConnection

from cano_redis import scripts
from cano_redis.packing import ask, pack_line, unpack_line
from cano_redis.settings import Settings

SCHEMA = 2
_PAGE = 256


async def migrate(connection: AbstractConnection, settings: Settings) -> None:
    """Migrate a store of schema 1. Each run is migrated at once; repeated, or by several processes, it does no harm."""
    keys = settings.keys
    recipients = await ask(connection, "SMEMBERS", keys + b"orphans")
    for id in [*await ask(connection, "HKEYS", keys + b"ids"), *recipients]:
        at, lines = 0, [b""]
        while lines:
            lines = await ask(connection, "LRANGE", keys + b"lines:" + id, at, at + _PAGE - 1)
            changed = [each for place, line in enumerate(lines, at) for each in _changed(place, line)]
            await ask(connection, "EVALSHA", scripts.APART.sha, 1, keys + b"run:" + id, keys, id, *changed)
            at += _PAGE
    await ask(connection, "SET", keys + b"schema", SCHEMA)


def _changed(place: int, line: bytes) -> list[bytes]:
    """Return the place of an entry, its text, and the text that replaces it; nothing if it stays."""
    try:
        seq, body = unpack_line(line)
    except DamagedError:
        return []  # it stays, for `history` to report it
    if body is None or (changes := Changes(*body[3:])) == (moved := apart(changes)):
        return []
    return [b"%d" % place, line, pack_line(line[:16], seq, body.state, body.status, body.at, moved)]
