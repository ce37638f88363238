"""`FlowInfo`: the status of a schedule, for people."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cano import SerializationError

from cano_scheduler._decide import is_current
from cano_scheduler._schedule import Schedule
from cano_scheduler._state import ACTIVE, State
from cano_scheduler._times import datetime_of


@dataclass(frozen=True, slots=True)
class FlowInfo:
    """The status of a schedule.

    Attributes:
        id: the schedule's id.
        kind: "cron", "every", "at", "on" or "manual".
        definition: its trigger, as text.
        workflow: the name of its workflow.
        state: "idle", "running", "backoff", "paused", "tripped", "done" (it has no more nominal times) or
            "superseded" (a newer process has redefined or removed it); in a list also "corrupt" (`last_error` says why
            its state cannot be read, and the other fields are empty).
        run_count: the number of started runs.
        failures: the number of failed runs; in a batch each run counts.
        cancelled: the number of cancelled runs, which are not failures.
        streak: the number of consecutive failures.
        fired, late, skipped: how many nominal times had that outcome.
        running, queued: the ids of the active and of the queued runs.
        last: when a run was last started, or None.
        next: when the next run is due, jitter included; None if there is none, or the schedule is paused or tripped.
        next_nominal: the nominal time of that run, or None.
        blocked_until: the end of the backoff, or None.
        last_error: the error of the last failed run, or None.
    """

    id: str
    kind: str
    definition: str
    workflow: str
    state: str
    run_count: int
    failures: int
    cancelled: int
    streak: int
    fired: int
    late: int
    skipped: int
    running: tuple[str, ...]
    queued: tuple[str, ...]
    last: datetime | None
    next: datetime | None
    next_nominal: datetime | None
    blocked_until: datetime | None
    last_error: str | None


def corrupt_info(schedule: Schedule, error: SerializationError) -> FlowInfo:
    """Describe a schedule whose state in the store cannot be read."""
    kind, definition = schedule.trigger.kind, schedule.trigger.definition
    return FlowInfo(
        schedule.id, kind, definition, schedule.flow.name, "corrupt", 0, 0, 0, 0, 0, 0, 0, (), (), None, None, None,
        None, str(error),
    )  # fmt: skip


def info_of(schedule: Schedule, state: State, now: int) -> FlowInfo:
    """Describe the status of `schedule` at `now`."""
    current = is_current(schedule, state)
    nominal = schedule.next(state.cursor, state.anchor) if current else None
    due = nominal if state.status == ACTIVE else None  # a paused or tripped schedule skips its times
    blocked = state.blocked_until if state.blocked_until is not None and state.blocked_until > now else None
    if not current:
        status = "superseded"
    elif state.status != ACTIVE:
        status = state.status
    elif state.active:
        status = "running"
    elif blocked is not None:
        status = "backoff"
    else:
        status = "done" if nominal is None and schedule.trigger.kind == "at" else "idle"
    return FlowInfo(
        schedule.id, schedule.trigger.kind, schedule.trigger.definition, schedule.flow.name, status, state.runs,
        state.failures, state.cancelled, state.streak, state.fired, state.late, state.skipped,
        tuple(state.active), tuple(job.run_id for job in state.queue),
        None if state.last_run is None else datetime_of(state.last_run),
        None if due is None else datetime_of(schedule.due(due, state.anchor)),
        None if due is None else datetime_of(due),
        None if blocked is None else datetime_of(blocked), state.last_error,
    )  # fmt: skip
