"""Beginning, changing, pausing, resuming, resetting and removing a schedule: changes of its state."""

from __future__ import annotations

from cano_scheduler._decide import Decision, belongs, decide, drop_waiting, start_waiting
from cano_scheduler._schedule import Schedule
from cano_scheduler._state import ACTIVE, PAUSED, REMOVED, TRIPPED, State


def begin(schedule: Schedule, now: int) -> State:
    """The state of a schedule that there was not before."""
    anchor = schedule.trigger.anchor(now)
    return State(schedule.trigger.definition, anchor, schedule.trigger.begins(now, anchor))


def adopt(schedule: Schedule, state: State, now: int) -> Decision | None:
    """Let an older state be that of `schedule`; None where it is already, and nothing moves.

    A schedule with another trigger, and one that was removed, begins now; its counts go on.
    """
    if belongs(schedule, state):
        return None
    fresh = begin(schedule, now)
    same = state.definition == fresh.definition
    state.cursor = max(state.cursor, fresh.cursor) if same else fresh.cursor
    state.definition, state.anchor = fresh.definition, fresh.anchor
    if state.standing == REMOVED:
        state.standing = ACTIVE
    return Decision()


def pause(schedule: Schedule, state: State, now: int) -> Decision | None:
    """Let nothing be fired; None where that is so already. What was due before is decided first."""
    if state.standing in (PAUSED, REMOVED):
        return None
    decision = decide(schedule, state, now) or Decision()
    if not decision.more:
        state.standing = PAUSED
    return decision


def resume(schedule: Schedule, state: State, now: int) -> Decision | None:
    """Let it be fired again; None where it is not paused. What was due meanwhile has been skipped."""
    return _activate(schedule, state, now, PAUSED)


def reset(schedule: Schedule, state: State, now: int) -> Decision | None:
    """Forget the failures in a row, and what they led to: tripping and backing off."""
    if state.standing == TRIPPED:
        decision = _activate(schedule, state, now, TRIPPED) or Decision()
    else:
        decision = decide(schedule, state, now) or Decision()
    if not decision.more:
        state.streak, state.blocked_until, state.last_error = 0, None, None
    return decision


def _activate(schedule: Schedule, state: State, now: int, standing: str) -> Decision | None:
    if state.standing != standing:
        return None
    decision = decide(schedule, state, now) or Decision()
    if not decision.more:
        state.standing = ACTIVE
        start_waiting(schedule, state, now, decision)
    return decision


def remove(schedule: Schedule, state: State, now: int) -> Decision | None:
    """Let it be over; what is under way ends by itself. None where it was removed before."""
    if state.standing == REMOVED:
        return None
    decision = Decision()
    drop_waiting(schedule, state, now, decision)
    state.standing = REMOVED
    return decision
