"""The chunks of a stream: successive items that one attempt has emitted, or a mark that supersedes some."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from cano import SerializationError, StreamChunk, StreamItem

from cano_durability.values import Values

Span = tuple[int, int]
"""The offsets of successive items: of the first and of the last."""


class Unit(NamedTuple):
    """The part of a step whose attempts are repeated together: a task, a branch of a split, a phase of a node."""

    seq: int
    branch: str | None
    phase: str | None


class Part(NamedTuple):
    """The content of a chunk.

    Attributes:
        unit: what emitted its items; None for a mark.
        items: the items, each encoded.
        superseded: the spans that a mark supersedes.
    """

    unit: Unit | None
    items: Sequence[Any] = ()
    superseded: Sequence[Span] = ()

    def packed(self, values: Values, channel: str, first: int, run_id: str) -> StreamChunk:
        """Return the chunk that begins with the offset `first`."""
        content = list(map(list, self.superseded)) if self.unit is None else list(self.items)
        value = values.encode(_name(channel), [self.unit and list(self.unit), content], run_id, own=True)
        return StreamChunk(channel, first, first + max(len(self.items), 1) - 1, value)

    @classmethod
    def unpacked(cls, values: Values, chunk: StreamChunk, run_id: str) -> Part:
        """Return the content of a chunk. Raises SerializationError if it cannot be read."""
        try:
            unit, content = values.decode(_name(chunk.channel), chunk.value, run_id, own=True)
            if unit is None:
                part = cls(None, (), [(int(first), int(last)) for first, last in content])
            else:
                part = cls(Unit(*unit), content)
        except (TypeError, ValueError) as error:
            raise broken(run_id, chunk.channel, f"a chunk cannot be read: {error}") from error
        if chunk.last - chunk.first + 1 != max(len(part.items), 1):
            raise broken(run_id, chunk.channel, "a chunk has other items than it says")
        return part


def items_of(values: Values, chunk: StreamChunk, after: int, run_id: str) -> Iterator[StreamItem]:
    """Yield the items of a chunk after an offset."""
    part = Part.unpacked(values, chunk, run_id)
    if part.unit is None:
        yield StreamItem(chunk.last, None, tuple(range(first, last + 1) for first, last in part.superseded))
        return
    for offset, item in enumerate(part.items, chunk.first):
        if offset > after:
            yield StreamItem(offset, values.item(_name(chunk.channel), item, run_id))


def add_span(some: list[tuple[Unit, Span]], unit: Unit, chunk: StreamChunk) -> None:
    """Add the span of a chunk, which a unit has emitted. It extends the last span if it follows that."""
    first = chunk.first
    if some and some[-1][0] == unit and some[-1][1][1] + 1 == first:
        first = some.pop()[1][0]
    some.append((unit, (first, chunk.last)))


def without(spans: Sequence[Span], gone: Sequence[Span]) -> list[Span]:
    """Return the spans without the offsets of others."""
    rest = list(spans)
    for first, last in gone:
        rest = [
            part
            for begin, end in rest
            for part in ((begin, min(end, first - 1)), (max(begin, last + 1), end))
            if part[0] <= part[1]
        ]
    return rest


def joined(spans: Sequence[Span]) -> list[Span]:
    """Return the spans in order, those that follow each other as one."""
    found: list[Span] = []
    for first, last in sorted(spans):
        if found and found[-1][1] + 1 == first:
            found[-1] = found[-1][0], last
        else:
            found.append((first, last))
    return found


def broken(run_id: str, channel: str, problem: str) -> SerializationError:
    """Return the error for a channel that cannot be read."""
    return SerializationError(f"run {run_id}, {_name(channel)}: {problem}", run_id=run_id, key=channel)


def _name(channel: str) -> str:
    return f"channel {channel!r}"
