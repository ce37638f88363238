"""Recording the end of a run in the state of its schedule."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from cano.safe_text import escaped

from cano_scheduler._decide import Decision, start_queued
from cano_scheduler._schedule import Schedule
from cano_scheduler._state import ACTIVE, TRIPPED, State
from cano_scheduler._times import micros

_log = logging.getLogger("cano.scheduler")


@dataclass(frozen=True, slots=True)
class RunEnd:
    """The end of a run.

    Attributes:
        failed: whether it counts as a failure; a batch that met its quota does not.
        cancelled: whether it was cancelled.
        failures: the number of failed runs; in a batch, each run counts.
        error: its error, or the first error of a batch.
    """

    failed: bool = False
    cancelled: bool = False
    failures: int = 0
    error: Exception | None = None


def record_end(
    schedule: Schedule, state: State, run_id: str, end: RunEnd, now: int, keep_queue: bool = False
) -> Decision | None:
    """Record the end of a run and start the next queued job. Return None if the end was recorded before.

    Args:
        schedule: the definition.
        state: its state, which is changed.
        run_id: the run.
        end: its end.
        now: microseconds since the epoch.
        keep_queue: whether the queue stays as it is, because this process stops.
    """
    if state.active.pop(run_id, None) is None:
        return None
    state.failures += end.failures
    if end.cancelled:
        state.cancelled += 1
    elif end.failed:
        _failed(schedule, state, end, now)
    else:
        state.streak, state.blocked_until = 0, None
        if state.status == TRIPPED:
            state.status = ACTIVE  # a triggered run has succeeded
    if end.error is not None:
        state.last_error = describe(end.error)
    decision = Decision()
    if state.queue and not keep_queue:
        start_queued(schedule, state, now, decision)
    return decision


SUCCEEDED = RunEnd()


def _failed(schedule: Schedule, state: State, end: RunEnd, now: int) -> None:
    state.streak += 1
    gives_up = schedule.trip_after is not None and state.streak >= schedule.trip_after
    if schedule.backoff is not None:
        error = end.error or Exception("a run failed")
        try:
            delay = schedule.backoff.delay(state.streak, error, 0.0)
        except Exception:  # noqa: BLE001  # the run's end must be recorded even if the user's strategy fails
            _log.exception("schedule %s: its backoff strategy raised; the schedule is tripped", escaped(schedule.id))
            delay = None
        if delay is None:
            gives_up = True
        else:
            state.blocked_until = now + micros(delay)
    if gives_up and state.status == ACTIVE:
        state.status = TRIPPED


def describe(error: Exception) -> str:
    """Return the class and the message of an error and of its cause."""
    cause = error.__cause__
    text = f"{type(error).__name__}: {error}"
    return text if cause is None or str(cause) in text else f"{text} ({type(cause).__name__}: {cause})"
