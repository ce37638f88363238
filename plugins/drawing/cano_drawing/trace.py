"""The way of a run through its workflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from cano import RunView, Transition


class Visits(NamedTuple):
    """The visits of one state: how many have ended, and the seconds that they took together, waits included."""

    number: int
    seconds: float


class Trace(NamedTuple):
    """The way of a run.

    Attributes:
        visits: the visits by state.
        taken: how often each transition was made, by the names of both states.
        state: the state that is next, or in which the run has ended.
        status: the run's status, as in `RunStatus`.
        waits_for: of a parked run, the name of the signal that it waits for, or what else in words; otherwise None.
    """

    visits: Mapping[str, Visits]
    taken: Mapping[tuple[str, str], int]
    state: str
    status: str
    waits_for: str | None


def trace_of(run: RunView, history: Sequence[Transition]) -> Trace:
    """Return the way of a run.

    Args:
        run: the run, from `Kernel.get`.
        history: its history, from `Kernel.history`; a part of it shows that part of the way.
    """
    visits: dict[str, Visits] = {}
    taken: dict[tuple[str, str], int] = {}
    for before, after in pairwise(history):
        number, seconds = visits.get(before.state, (0, 0.0))
        visits[before.state] = Visits(number + 1, seconds + max(0.0, after.at - before.at))
        pair = before.state, after.state
        taken[pair] = taken.get(pair, 0) + 1
    return Trace(visits, taken, run.state, run.status.value, _waits_for(run))


def _waits_for(run: RunView) -> str | None:
    if run.wait is None:
        return None
    if run.wait.child is not None:
        return f"run {run.wait.child}"
    return "a time" if run.wait.signal is None else run.wait.signal
