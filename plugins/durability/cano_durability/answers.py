"""Signals that answer waits: which signal a wait takes, and which wait a signal was sent to.

Several processes must agree on the answer to a wait, so the order of the signals in the store decides. Signals of this
plugin's own, with the name `WAIT`, mark places in that order: where a step that has handed out its wait's token looked
for early answers, and where a wait timed out. Others name the signals that came too late to a wait, since a consumed
signal leaves only its id.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from cano import ConfigurationError, Signal, Signals, StoreBackend, Wait
from cano.engine.ports import wait_token

from cano_durability.keys import WAIT


def seq_of(run_id: str, token: str) -> int:
    """Return the transition that begins the wait with this token. Raises ConfigurationError."""
    seq = token.rpartition(":")[2]
    if not re.fullmatch("[0-9]{1,15}", seq) or token != wait_token(run_id, int(seq)):
        raise ConfigurationError(
            f"{token!r} is not the token of a wait of run {run_id}; pass what current_wait().token was in its task",
            run_id=run_id,
        )  # fmt: skip
    return int(seq)


class Answer(NamedTuple):
    """The signal that ends a wait, if there is one.

    Attributes:
        signal: the signal, or None.
        used, own_used, answered: what the commit which begins or ends the wait consumes: its `consumed`,
            `own_consumed` and `answered`.
    """

    signal: Signal | None
    used: Sequence[str] = ()
    own_used: Sequence[str] = ()
    answered: Sequence[tuple[int, str]] = ()

    @classmethod
    def of(cls, signal: Signal | None, own_used: tuple[str, ...] = ()) -> Answer:
        """Return the answer that uses `signal`, if there is one, and these signals of the engine's own."""
        _, used, own, answered = Signals.of((), () if signal is None else [signal.key])
        return cls(signal, used, (*own, *own_used), answered)


async def answer(backend: StoreBackend, run_id: str, wait: Wait, seq: int) -> Signal | None:
    """Return the signal that ends the wait in which the run is parked since transition `seq`, or None."""
    if (name := wait.signal) is None:
        return None
    signal = await backend.next_signal(run_id, name, wait.own)
    if signal is None or wait.own or signal.to in (None, seq):
        return signal
    return _first((await backend.signals(run_id)).waiting, name, seq, begun=True)


async def early_answer(backend: StoreBackend, run_id: str, name: str, seq: int, *, fresh: bool, known: bool) -> Answer:
    """Return the signal that ends a wait before it begins. The commit also consumes those that no wait takes any more.

    Args:
        backend: the store.
        run_id, seq: the run, and the transition that begins the wait.
        name: the name that it waits for.
        fresh: whether only signals count that were sent to this wait.
        known: whether the step has handed out its wait's token, so that there may be such signals.
    """
    used: list[Signal] = []
    marks: list[str] = []
    if known:
        marks.append(_begin(seq, fresh=fresh))
        await backend.put_signal(run_id, Signal(marks[0], WAIT, own=True))
    else:
        signal = await backend.next_signal(run_id, name)
        if signal is None or (not fresh and signal.to in (None, seq)):
            return Answer.of(signal)
    waiting = (await backend.signals(run_id)).waiting
    taken = _first(waiting, name, seq, begun=False, fresh=fresh)
    for signal in waiting:
        if signal.own:
            continue
        if signal is taken or (signal.name == name and signal.to is None and fresh):
            used.append(signal)
        elif signal.name == name and signal.to is not None and signal.to < seq:
            used.append(signal)
            marks.append(_late(signal.to, signal.id))
            await backend.put_signal(run_id, Signal(marks[-1], WAIT, own=True))
    _, ids, _, answered = Signals.of((), [signal.key for signal in used])
    return Answer(taken, ids, marks, answered)


async def last_answer(backend: StoreBackend, run_id: str, wait: Wait, seq: int) -> Answer:
    """Return the signal that ends a wait whose time has come, or none: then no later signal ends it."""
    if (name := wait.signal) is None:
        return Answer(None)
    over = _over(seq)
    await backend.put_signal(run_id, Signal(over, WAIT, own=True))
    first = _first((await backend.signals(run_id)).waiting, name, seq, begun=True)
    return Answer.of(None if first is None or first.own else first, (over,))


def verdict(signals: Signals, name: str, seq: int, id: str, *, begun: bool) -> bool | None:
    """Return whether the signal `id`, and no other one, answers the wait that it was sent to; None if none does yet.

    Args:
        signals: the signals of the run. The wait was not over when they were read.
        name, seq: the signal's name, and the transition that begins the wait.
        id: the signal's id.
        begun: whether the run is parked in the wait.
    """
    if _answers(signals, seq) or _over(seq) in signals.own_consumed:
        return accepted(signals, seq, id)
    first = _first(signals.waiting, name, seq, begun=begun)
    return None if first is None else first.key == (False, seq, id)


def accepted(signals: Signals, seq: int, id: str) -> bool:
    """Return whether the signal `id` has answered the wait that it was sent to, which is over."""
    return _answers(signals, seq) == [id]


def _answers(signals: Signals, seq: int) -> list[str]:
    """Return the ids of the consumed signals to a wait, without the late ones, which earlier versions did not mark."""
    known = {*signals.own_consumed, *(signal.id for signal in signals.waiting if signal.own)}
    return [id for to, id in signals.answered if to == seq and _late(to, id) not in known]


def _first(waiting: Sequence[Signal], name: str, seq: int, *, begun: bool, fresh: bool = True) -> Signal | None:
    """Return the first signal that ends a wait, or the mark that it timed out; None if there is none.

    A signal is early if it was put before the step looked for it. Of the early ones, those to this wait come first. The
    others count only if the wait is not fresh.

    Args:
        waiting: the run's waiting signals, in their order.
        name, seq: the name that the wait is for, and the transition that begins it.
        begun: whether the run is parked in the wait. Without a mark, no signal is then early; otherwise all are.
        fresh: whether the wait is fresh, if no mark tells.
    """
    marks = _begin(seq, fresh=False), _begin(seq, fresh=True)
    ours = [signal for signal in waiting if (signal.own and signal.id in marks) or _ends(signal, name, seq)]
    place = next((place for place, signal in enumerate(ours) if signal.own and signal.id in marks), None)
    if place is None:
        early, late = ([], ours) if begun else (ours, [])
    else:
        early, late, fresh = ours[:place], ours[place:], ours[place].id == marks[1]
    sent = [signal for signal in early if not signal.own and signal.to == seq]
    queue = [*sent, *(() if fresh else early), *late]
    return next((signal for signal in queue if not (signal.own and signal.id in marks)), None)


def _ends(signal: Signal, name: str, seq: int) -> bool:
    if signal.own:
        return signal.id == _over(seq)
    return signal.name == name and signal.to in (None, seq)


def _begin(seq: int, *, fresh: bool) -> str:
    """Return the id of the mark that a step looked for early answers to its wait."""
    return f"{WAIT} begins {'fresh ' if fresh else ''}{seq}"


def _over(seq: int) -> str:
    """Return the id of the mark that a wait timed out."""
    return f"{WAIT} over {seq}"


def _late(to: int, id: str) -> str:
    """Return the id of the mark that a signal came too late to its wait, as earlier versions have it, too."""
    return f"{WAIT} late \0wait {to} {id}"
