"""What a run's end does to its schedule."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from cano_scheduler._decide import Decision, start_waiting
from cano_scheduler._schedule import Schedule
from cano_scheduler._state import ACTIVE, TRIPPED, State
from cano_scheduler._times import micros

_log = logging.getLogger("cano.scheduler")


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended.

    Attributes:
        failed: whether it counts as failed; a batch that met its quota does not.
        cancelled: whether it was cancelled.
        failures: how many failures that are: of a batch, each run's.
        error: the error that it failed with, or the first one of a batch.
    """

    failed: bool = False
    cancelled: bool = False
    failures: int = 0
    error: Exception | None = None


def settle(
    schedule: Schedule, state: State, run_id: str, ending: Ending, now: int, hold: bool = False
) -> Decision | None:
    """Note how a run ended, and start what waited for it; None where that was noted before.

    Args:
        schedule: the definition.
        state: where it stands; it is changed.
        run_id: the run.
        ending: how it ended.
        now: microseconds since the epoch.
        hold: whether what waits is to wait on, because this process stops.
    """
    if state.active.pop(run_id, None) is None:
        return None
    state.failures += ending.failures
    if ending.cancelled:
        state.cancelled += 1
    elif ending.failed:
        _failed(schedule, state, ending, now)
    else:
        state.streak, state.blocked_until = 0, None
        if state.standing == TRIPPED:
            state.standing = ACTIVE  # a run by hand has shown that it works again
    if ending.error is not None:
        state.last_error = describe(ending.error)
    decision = Decision()
    if state.queue and not hold:
        start_waiting(schedule, state, now, decision)
    return decision


SUCCEEDED = Ending()


def _failed(schedule: Schedule, state: State, ending: Ending, now: int) -> None:
    state.streak += 1
    gives_up = schedule.trip_after is not None and state.streak >= schedule.trip_after
    if schedule.backoff is not None:
        error = ending.error or Exception("a run failed")
        try:
            delay = schedule.backoff.delay(state.streak, error, 0.0)
        except Exception:  # noqa: BLE001  # a user's strategy must not keep a run's end from being noted
            _log.exception("schedule %s: its backoff raised; it is tripped", schedule.id)
            delay = None
        if delay is None:
            gives_up = True
        else:
            state.blocked_until = now + micros(delay)
    if gives_up and state.standing == ACTIVE:
        state.standing = TRIPPED


def describe(error: Exception) -> str:
    """Class and message of an error, and of what it comes from."""
    cause = error.__cause__
    text = f"{type(error).__name__}: {error}"
    return text if cause is None or str(cause) in text else f"{text} ({type(cause).__name__}: {cause})"
