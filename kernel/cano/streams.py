"""`StreamItem`: what a step has emitted, as readers of a stream get it."""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from typing import Any, NamedTuple, Protocol


class StreamItem(NamedTuple):
    """An item of a stream, or a mark that earlier items are superseded.

    Attributes:
        offset: its place in the channel, counted from 1. It never changes: to read on after it, pass it as `after`.
        value: the item; None for a mark.
        superseded: of a mark, the offsets of the earlier items whose attempt has failed, so that the step does not
            count them; empty for an item. Each such item is named by exactly one mark.
    """

    offset: int
    value: Any
    superseded: tuple[range, ...] = ()


class _Nothing:
    """An awaitable that is done."""

    def __await__(self) -> Generator[Any, None, None]:
        return
        yield


NOTHING = _Nothing()
"""The result of emitting an item, if there is nothing to wait for."""


class Emitter(Protocol):
    """Writes what the steps of one run emit."""

    def emit(self, step: Any, channel: str, item: Any, flush: bool) -> Awaitable[None]:
        """See `Step.emit`. Any thread may call this."""

    def discard(self, step: Any, phase: str | None) -> None:
        """Drop what an attempt of `step` has emitted, or have it superseded, and refuse more of it.

        Args:
            step: the step of the run, whose finished branches are left out; or that of one branch.
            phase: the phase of a node that failed; None for the whole step.
        """
