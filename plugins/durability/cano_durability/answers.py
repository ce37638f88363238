"""Signals that answer waits: which signal a wait takes, and which wait a signal was sent to."""

from __future__ import annotations

import re

from cano import ConfigurationError, Signal, Signals, StoreBackend
from cano.engine.ports import wait_token

from cano_durability.keys import WAIT

_ADDRESSED = re.compile(WAIT + r" (\d+) .*", re.DOTALL)


def address(id: str, seq: int) -> str:
    """Return the id of a signal for the wait that the transition `seq` begins, and for no other."""
    return f"{WAIT} {seq} {id}"


def addressee(id: str) -> int | None:
    """Return the transition whose wait a signal with this id was sent to; None if it is for any wait."""
    match = _ADDRESSED.fullmatch(id)
    return None if match is None else int(match[1])


def seq_of(run_id: str, token: str) -> int:
    """Return the transition that begins the wait with this token. Raises ConfigurationError."""
    seq = token.rpartition(":")[2]
    if not re.fullmatch("[0-9]{1,18}", seq) or token != wait_token(run_id, int(seq)):
        raise ConfigurationError(
            f"{token!r} is not the token of a wait of run {run_id}; pass what current_wait().token was in its task"
        )
    return int(seq)


async def answer(
    backend: StoreBackend, run_id: str, name: str, seq: int, *, fresh: bool = False
) -> tuple[Signal | None, list[str]]:
    """Return the signal that ends a wait, or None; and the ids of those that no wait takes any more.

    Args:
        backend: the store.
        run_id, seq: the run, and the transition that begins the wait.
        name: the name that it waits for.
        fresh: whether only signals count that were sent to this wait.
    """
    signal = await backend.next_signal(run_id, name)
    if signal is None or (not fresh and addressee(signal.id) in (None, seq)):
        return signal, []
    taken, outdated = None, []
    for signal in (await backend.signals(run_id)).waiting:
        to = addressee(signal.id)
        if signal.name != name:
            continue
        if to == seq or (to is None and not fresh):
            taken = taken or signal
        elif to is None or to < seq:
            outdated.append(signal.id)
    return taken, outdated


def verdict(signals: Signals, name: str, seq: int, id: str) -> bool | None:
    """Return whether the signal `id`, and no other one, answers the wait that it was sent to; None if none does yet."""
    consumed = [each for each in signals.consumed if addressee(each) == seq]
    if consumed:
        return consumed == [id]
    waiting = [signal.id for signal in signals.waiting if signal.name == name and addressee(signal.id) == seq]
    return waiting[0] == id if waiting else None
