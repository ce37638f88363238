"""Changes of a schedule's state: begin, adopt a new definition, pause, resume, reset and remove."""

from __future__ import annotations

from cano_scheduler._decide import Decision, decide, drop_queue, is_current, start_queued
from cano_scheduler._schedule import Schedule
from cano_scheduler._state import ACTIVE, PAUSED, REMOVED, TRIPPED, State
from cano_scheduler._triggers import EveryTrigger


def begin(schedule: Schedule, now: int) -> State:
    """Create the state of a new schedule."""
    anchor = schedule.trigger.anchor(now)
    return State(schedule.trigger.definition, anchor, schedule.trigger.initial_cursor(now, anchor), key=schedule.id)


def adopt(schedule: Schedule, state: State, now: int) -> Decision | None:
    """Make an existing state belong to `schedule`. Return None, and change nothing, if it already does.

    If the trigger has changed or the schedule was removed, it begins now. Its counts are kept.
    """
    if is_current(schedule, state):
        return None
    fresh = begin(schedule, now)
    same = state.definition == fresh.definition
    state.cursor = max(state.cursor, fresh.cursor) if same else fresh.cursor
    state.definition, state.anchor = fresh.definition, fresh.anchor
    if state.status == REMOVED:
        state.status = ACTIVE
    return Decision()


def restart_interval(schedule: Schedule, state: State, now: int, step: int) -> Decision | None:
    """Let an interval continue at `now`, after the wall clock was set back by `step` microseconds.

    Return None, and change nothing, if the schedule has decided nothing that is in the future by now. Cron
    expressions name times of day: those that have come once are not fired again.
    """
    trigger = schedule.trigger
    if not isinstance(trigger, EveryTrigger) or not is_current(schedule, state) or state.cursor <= now:
        return None
    following, grid = trigger.next(state.cursor, state.anchor), step - step % trigger.interval
    if not trigger.absolute:  # the time that is left until the next one stays, and no nominal time repeats
        state.anchor = following - step + (step == grid)
    elif grid:  # the times of day stay, but for a microsecond
        state.anchor = following - grid + 1
    else:
        return None
    state.cursor = min(now, state.anchor - 1)
    return Decision()


def pause(schedule: Schedule, state: State, now: int) -> Decision | None:
    """Pause the schedule, after the times that are already due are decided. Return None if it is paused or removed."""
    if state.status in (PAUSED, REMOVED):
        return None
    decision = decide(schedule, state, now) or Decision()
    if not decision.more:
        state.status = PAUSED
    return decision


def resume(schedule: Schedule, state: State, now: int) -> Decision | None:
    """Resume a paused schedule; the times that were due meanwhile are skipped. Return None if it is not paused."""
    return _activate(schedule, state, now, PAUSED)


def reset(schedule: Schedule, state: State, now: int) -> Decision | None:
    """Clear the consecutive failures, and end tripping and backoff."""
    if state.status == TRIPPED:
        decision = _activate(schedule, state, now, TRIPPED) or Decision()
    else:
        decision = decide(schedule, state, now) or Decision()
    if not decision.more:
        state.streak, state.blocked_until, state.last_error = 0, None, None
    return decision


def _activate(schedule: Schedule, state: State, now: int, status: str) -> Decision | None:
    if state.status != status:
        return None
    decision = decide(schedule, state, now) or Decision()
    if not decision.more:
        state.status = ACTIVE
        start_queued(schedule, state, now, decision)
    return decision


def remove(schedule: Schedule, state: State, now: int) -> Decision | None:
    """Remove the schedule and skip its queue; active runs continue. Return None if it was removed before."""
    if state.status == REMOVED:
        return None
    decision = Decision()
    drop_queue(schedule, state, now, decision)
    state.status = REMOVED
    return decision
