"""Streams: chunks of items, which are only ever added, and deleted with their run."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from cano import StreamChunk
from cano_msgspec.packing import stale, unreadable

from cano_sqlite.snapshot import fetch

_ADD = """
    INSERT OR IGNORE INTO chunks (run, channel, first, last, value)
    SELECT id, ?, ?, ?, ? FROM runs WHERE run_id = ?"""
_REWRITE = """
    UPDATE chunks SET value = ? WHERE run = (SELECT id FROM runs WHERE run_id = ?) AND channel = ? AND last = ?"""
READ = """
    SELECT channel, first, last, value FROM chunks
    WHERE run = (SELECT id FROM runs WHERE run_id = ?) AND channel = ? AND last > ? ORDER BY last LIMIT ?"""
CHANNELS = """
    WITH RECURSIVE run (id) AS (SELECT id FROM runs WHERE run_id = ?),
    names (name) AS (
        SELECT min(channel) FROM chunks WHERE run = (SELECT id FROM run)
        UNION ALL
        SELECT (SELECT min(channel) FROM chunks WHERE run = (SELECT id FROM run) AND channel > name)
        FROM names WHERE name IS NOT NULL
    )
    SELECT name FROM names WHERE name IS NOT NULL"""


def add(connection: sqlite3.Connection, run_id: str, chunks: Sequence[StreamChunk]) -> None:
    """Add chunks to the streams of a run, but none that is there already."""
    connection.executemany(_ADD, [(*chunk, run_id) for chunk in chunks])


def write(connection: sqlite3.Connection, run_id: str, token: int, chunks: Sequence[StreamChunk]) -> None:
    """Add chunks if `token` is the run's. Raise ConflictError if it is not."""
    found = connection.execute("SELECT seq, token FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    if found is None or found[1] != token:
        raise stale(run_id, 0 if found is None else found[0], token, found)
    add(connection, run_id, chunks)


def rewrite(connection: sqlite3.Connection, run_id: str, chunks: Sequence[StreamChunk]) -> None:
    """Replace the values of those of these chunks that the run has."""
    connection.executemany(_REWRITE, [(chunk.value, run_id, chunk.channel, chunk.last) for chunk in chunks])


def read(connection: sqlite3.Connection, run_id: str, channel: str, after: int, limit: int) -> list[StreamChunk]:
    """Return the first `limit` chunks of a channel that end after an offset."""
    return [_checked(run_id, row) for row in fetch(connection, READ, (run_id, channel, after, limit))]


def channels(connection: sqlite3.Connection, run_id: str) -> list[str]:
    """Return the names of a run's channels."""
    return [name for (name,) in fetch(connection, CHANNELS, (run_id,)) if isinstance(name, str)]


def _checked(run_id: str, row: tuple[Any, ...]) -> StreamChunk:
    channel, first, last, value = row
    if not (isinstance(first, int) and isinstance(last, int) and isinstance(value, bytes) and first <= last):
        raise unreadable(run_id, f"a chunk of its channel {channel!r} is corrupt")
    return StreamChunk(*row)
