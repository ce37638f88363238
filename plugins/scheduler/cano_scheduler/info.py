"""Where a schedule stands, for people."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cano_scheduler._decide import belongs
from cano_scheduler._schedule import Schedule
from cano_scheduler._state import ACTIVE, State
from cano_scheduler._times import moment


@dataclass(frozen=True, slots=True)
class FlowInfo:
    """Where a schedule stands.

    Attributes:
        id: the schedule.
        kind: "cron", "every", "at", "on" or "manual".
        definition: its trigger, in words.
        workflow: the name of what it runs.
        state: "idle", "running", "backoff", "paused", "tripped", "done" (nothing will be due any more) or
            "superseded" (a newer process has defined it anew, or removed it).
        run_count: how many runs were started.
        failures: how many runs have failed; in a batch each counts.
        cancelled: how many were cancelled, which is no failure.
        streak: how many have failed in a row.
        fired, late, skipped: how many nominal times ended so.
        running, queued: ids of the runs under way, and of those that wait for them.
        last: when a run was last started, or None.
        next: when it is due next, or None; for `jitter` see `next_nominal`.
        next_nominal: the nominal time of that.
        blocked_until: until when it backs off, or None.
        last_error: what the last failed run failed with, or None.
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


def info_of(schedule: Schedule, state: State, now: int) -> FlowInfo:
    """Where `schedule` stands."""
    ours = belongs(schedule, state)
    nominal = schedule.next(state.cursor, state.anchor) if ours else None
    blocked = state.blocked_until if state.blocked_until is not None and state.blocked_until > now else None
    if not ours:
        standing = "superseded"
    elif state.standing != ACTIVE:
        standing = state.standing
    elif state.active:
        standing = "running"
    elif blocked is not None:
        standing = "backoff"
    else:
        standing = "done" if nominal is None and schedule.trigger.kind == "at" else "idle"
    return FlowInfo(
        schedule.id, schedule.trigger.kind, schedule.trigger.definition, schedule.flow.name, standing, state.runs,
        state.failures, state.cancelled, state.streak, state.fired, state.late, state.skipped,
        tuple(state.active), tuple(entry.run_id for entry in state.queue),
        None if state.last_run is None else moment(state.last_run),
        None if nominal is None else moment(schedule.due(nominal, state.anchor)),
        None if nominal is None else moment(nominal),
        None if blocked is None else moment(blocked), state.last_error,
    )  # fmt: skip
