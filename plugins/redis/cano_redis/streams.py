"""Streams: chunks of items as members of sorted sets."""

from __future__ import annotations

from collections.abc import Sequence

from cano import SerializationError, StreamChunk
from cano_msgspec.packing import unreadable

from cano_redis.packing import number, pairs


def packed(chunks: Sequence[StreamChunk]) -> list[bytes]:
    """Return each chunk before its last offset and its channel. Raise SerializationError if one cannot be stored."""
    flat: list[bytes] = []
    for channel, first, last, value in chunks:
        name, content = pairs({channel: value})
        flat += b"%s:%s:%s" % (number(first), number(last), content), number(last), name
    return flat


def unpacked(run_id: str, channel: str, members: Sequence[bytes]) -> list[StreamChunk]:
    """Return the chunks of a channel. Raise SerializationError if one is corrupt."""
    found: list[StreamChunk] = []
    try:
        for member in members:
            first, last, value = member.split(b":", 2)
            found.append(StreamChunk(channel, int(first), int(last), value))
            if not (len(found) < 2 or found[-2].last < found[-1].last) or found[-1].first > found[-1].last:
                raise ValueError("it has other offsets than it should")
    except ValueError as error:
        if isinstance(error, SerializationError):
            raise
        raise unreadable(run_id, f"a chunk of its channel {channel!r} is corrupt: {error}") from error
    return found
