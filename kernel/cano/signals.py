"""Signals, and what identifies them. They are never changed in place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

SignalKey = tuple[bool, int | None, str]
"""The identity of a signal in its run: whether it is the engine's own, `Signal.to`, and its id."""


class Signal(NamedTuple):
    """A signal sent to a run. Its `key` is unique in the run: a second signal with the same key is ignored.

    With `own`, it is one of the engine's own signals. These have ids and names of their own: one with the id or the
    name of a caller's signal is another signal.

    Attributes:
        id, name, payload: as the sender chose them.
        own: whether it is one of the engine's own.
        to: the `seq` of the transition that begins the wait which it answers; None if it is for any wait, as are
            the engine's own. The ids of the signals to each wait are their own: the same id to another wait, or to
            any, is another signal.
    """

    id: str
    name: str
    payload: Any = None
    own: bool = False
    to: int | None = None

    @property
    def key(self) -> SignalKey:
        """Its identity in its run."""
        return self.own, self.to, self.id


class Signals(NamedTuple):
    """All signals of a run: the unconsumed ones, oldest first, and the ids of the consumed ones.

    Attributes:
        waiting: the unconsumed ones, the engine's own included.
        consumed: ids of the consumed ones that callers sent.
        own_consumed: ids of the consumed ones that are the engine's own.
        answered: `to` and id of the consumed ones that callers sent to one wait.
    """

    waiting: Sequence[Signal] = ()
    consumed: Sequence[str] = ()
    own_consumed: Sequence[str] = ()
    answered: Sequence[tuple[int, str]] = ()

    @classmethod
    def of(cls, waiting: Sequence[Signal], consumed: Iterable[SignalKey]) -> Signals:
        """Return the signals that wait, and those with these keys as consumed."""
        ids: tuple[list[str], list[str]] = [], []
        answered = []
        for own, to, id in consumed:
            if to is None:
                ids[own].append(id)
            else:
                answered.append((to, id))
        return cls(waiting, *ids, answered)

    @property
    def consumed_keys(self) -> list[SignalKey]:
        """The keys of all consumed ones."""
        return keys_of(self)


class _Consuming(Protocol):
    @property
    def consumed(self) -> Sequence[str]: ...
    @property
    def own_consumed(self) -> Sequence[str]: ...
    @property
    def answered(self) -> Sequence[tuple[int, str]]: ...


def keys_of(some: _Consuming) -> list[SignalKey]:
    """Return the keys of the consumed signals of a commit, or of `Signals`."""
    users, own = ((False, None, id) for id in some.consumed), ((True, None, id) for id in some.own_consumed)
    return [*users, *own, *((False, to, id) for to, id in some.answered)]
