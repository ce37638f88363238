"""The streams of runs that no store keeps."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Protocol

from cano import StreamChunk


class Target(Protocol):
    """The place that the chunks of one run go to: its journal; or, if no store keeps it, a `LocalStreams`."""

    @property
    def is_local(self) -> bool:
        """Whether no store keeps the run."""

    @property
    def transaction(self) -> object | None:
        """The transaction whose commit writes the chunks, or None."""

    def saved(self, name: str) -> bool:
        """Return whether the store has a value of this name for the present step."""

    async def write_first(self, own: Mapping[str, Any], chunks: Sequence[StreamChunk]) -> None:
        """Write chunks, the first ones of a channel, with a value of the engine's own."""

    async def write_stream(self, chunks: Sequence[StreamChunk]) -> None:
        """Write chunks."""


class LocalStreams:
    """The streams of a run that no store keeps, in memory for as long as the run's object lives."""

    is_local = True
    transaction = None

    def __init__(self) -> None:
        self.chunks: dict[str, list[StreamChunk]] = {}

    def saved(self, name: str) -> bool:
        """Return False: no store keeps a result."""
        return False

    async def write_first(self, own: Mapping[str, Any], chunks: Iterable[StreamChunk]) -> None:
        """Add chunks, of channels that may be new."""
        await self.write_stream(chunks)

    async def write_stream(self, chunks: Iterable[StreamChunk]) -> None:
        """Add chunks."""
        for chunk in chunks:
            self.chunks.setdefault(chunk.channel, []).append(chunk)

    def read(self, channel: str, after: int, limit: int) -> Sequence[StreamChunk]:
        """Return the next chunks of a channel."""
        known = self.chunks.get(channel, [])
        first = bisect_right(known, after, key=attrgetter("last"))
        return known[first : first + limit]
