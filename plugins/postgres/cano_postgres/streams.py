"""Streams: chunks of items, which are only ever added, and deleted with their run."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from cano import StreamChunk
from cano_msgspec.packing import stale, unreadable

from cano_postgres.arrays import bigs, blobs
from cano_postgres.connection import Connection
from cano_postgres.work import Rows, Statement

_GIVEN = """
    INSERT INTO chunks (run, channel, first, last, value)
    SELECT run.id, given.* FROM run, unnest(%s::bytea[], %s::bigint[], %s::bigint[], %s::bytea[]) AS given
    ON CONFLICT (run, sha256(channel), last) DO NOTHING"""
_COMMITTED = f"""
    WITH run AS (
        SELECT runs.id FROM runs JOIN journal ON journal.run = runs.id AND journal.line = runs.head
        WHERE runs.run_id = %s AND journal.mark = %s
    ) {_GIVEN}"""
# the lock keeps others from claiming the run before the chunks are there
_WRITE = f"""
    WITH run AS (SELECT id FROM runs WHERE run_id = %s AND token = %s FOR NO KEY UPDATE), added AS ({_GIVEN})
    SELECT count(*) FROM run"""
_STANDS = "SELECT seq, token FROM runs WHERE run_id = %s"
_REWRITE = """
    UPDATE chunks SET value = given.value
    FROM unnest(%s::bytea[], %s::bigint[], %s::bigint[], %s::bytea[]) AS given (channel, first, last, value)
    WHERE run = (SELECT id FROM runs WHERE run_id = %s) AND sha256(chunks.channel) = sha256(given.channel)
        AND chunks.last = given.last"""
READ = """
    SELECT channel, first, last, value FROM chunks
    WHERE run = (SELECT id FROM runs WHERE run_id = %s) AND sha256(channel) = %s AND last > %s
    ORDER BY last LIMIT %s"""
CHANNELS = """
    WITH RECURSIVE run AS MATERIALIZED (SELECT id FROM runs WHERE run_id = %s),
    names (hash, channel) AS (
        (
            SELECT sha256(channel), channel FROM chunks WHERE run = (SELECT id FROM run)
            ORDER BY run, sha256(channel) LIMIT 1
        )
        UNION ALL
        SELECT found.* FROM names, LATERAL (
            SELECT sha256(channel), channel FROM chunks
            WHERE run = (SELECT id FROM run) AND sha256(channel) > names.hash ORDER BY run, sha256(channel) LIMIT 1
        ) AS found
    )
    SELECT channel FROM names"""


def channel_of(schema: str) -> str:
    """Return the name of the notifications of chunks, which are apart from all others."""
    return "cano streams " + sha256(schema.encode()).hexdigest()[:32]


def committed(run_id: str, mark: int, chunks: Sequence[StreamChunk]) -> Statement:
    """Return the statement that adds chunks if the commit with this mark was applied in its transaction."""
    return _COMMITTED, (run_id, mark, *_columns(chunks))


def size_of_all(chunks: Sequence[StreamChunk]) -> int:
    """Return about how many bytes chunks take."""
    return sum(len(chunk.value) for chunk in chunks)


class WriteStream:
    """The work of adding chunks. Its outcome is an error, or "written"."""

    news = None
    awaits = False

    def __init__(self, run_id: str, token: int, chunks: Sequence[StreamChunk]) -> None:
        self.run_id = run_id
        self.size = size_of_all(chunks)
        self._token = token
        self._write: list[Statement] = [(_WRITE, (run_id, token, *_columns(chunks))), (_STANDS, (run_id,))]

    def statements(self, *, again: bool) -> Sequence[Statement]:
        """Return the insertion, which may be repeated: then the chunks are there."""
        return self._write

    def outcome(self, rows: Sequence[Rows], *, again: bool) -> object:
        """Return whether the chunks are there."""
        ((found,),) = rows[0]
        if found:
            return "written"
        stands = (rows[1][0][0], rows[1][0][1]) if rows[1] else None
        return stale(self.run_id, stands[0] if stands else 0, self._token, stands)


class RewriteStream:
    """The work of replacing the values of those of these chunks that the run has."""

    news = None
    awaits = False

    def __init__(self, run_id: str, chunks: Sequence[StreamChunk]) -> None:
        self.run_id = run_id
        self.size = size_of_all(chunks)
        self._rewrite: list[Statement] = [(_REWRITE, (*_columns(chunks), run_id))]

    def statements(self, *, again: bool) -> Sequence[Statement]:
        """Return the update, which may be repeated."""
        return self._rewrite

    def outcome(self, rows: Sequence[Rows], *, again: bool) -> None:
        """Return None."""


async def read(connection: Connection, run_id: str, channel: str, after: int, limit: int) -> list[StreamChunk]:
    """Return the first `limit` chunks of a channel that end after an offset."""
    wanted = run_id, sha256(channel.encode()).digest(), after, limit
    cursor = await connection.execute(READ, wanted, binary=True)
    found = []
    for _, first, last, value in await cursor.fetchall():
        if first > last:
            raise unreadable(run_id, f"a chunk of its channel {channel!r} is corrupt")
        found.append(StreamChunk(channel, first, last, value))
    return found


async def channels(connection: Connection, run_id: str) -> list[str]:
    """Return the names of a run's channels."""
    cursor = await connection.execute(CHANNELS, (run_id,), binary=True)
    return [name.decode(errors="replace") for (name,) in await cursor.fetchall()]


def _columns(chunks: Sequence[StreamChunk]) -> tuple[object, ...]:
    return (
        blobs([chunk.channel.encode() for chunk in chunks]), bigs([chunk.first for chunk in chunks]),
        bigs([chunk.last for chunk in chunks]), blobs([chunk.value for chunk in chunks]),
    )  # fmt: skip
