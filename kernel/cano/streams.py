"""`StreamItem` and `RunEvent`: what those get that follow a run."""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from typing import Any, Literal, NamedTuple, Protocol

from cano.late_run import LateRun
from cano.records import RunStatus, Wait


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


class RunEvent(NamedTuple):
    """Something that happened to a run.

    Attributes:
        kind: "transition" into `state`, the first one being the run's creation; "retry" after an attempt that failed;
            "progress" that a step reported; "wait" of a parked run; "late" of a run, or of its visit of the state,
            that takes longer than its workflow expects; or "end".
        position: its place, which never changes: pass it as `after` to continue after it. Only transitions and ends
            have positions of their own. The others are not kept: they have the one before, and come again or never.
        at: when it happened, in wall-clock seconds; of what is not kept, when it was seen.
        state: name of the run's state.
        seq: number of the transition; of what is not kept, of the step.
        attempt: the attempt, counted from 1; of a retry, the one that has failed.
        status: the run's status then.
        progress: the report, of "progress".
        wait: the wait, of "wait".
        late: what is late, of "late".
        error: the text of the error that the run failed with, of "end"; or None.
    """

    kind: Literal["transition", "retry", "progress", "wait", "late", "end"]
    position: int
    at: float
    state: str
    seq: int
    attempt: int
    status: RunStatus
    progress: Any = None
    wait: Wait | None = None
    late: LateRun | None = None
    error: str | None = None


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

    def discard(self, step: Any, phase: str | None, ended: bool = True) -> None:
        """Drop what an attempt of `step` has emitted, or have it superseded.

        Args:
            step: the step of the run, whose finished branches are left out; or that of one branch.
            phase: the phase of a node that failed; None for the whole step.
            ended: whether the attempt has ended, so that more of it is refused.
        """
