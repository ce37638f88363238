"""What becomes of each nominal time. Nothing here waits or does anything: a state goes in, changed it comes out.

That is what makes it safe: a process changes its own copy, and a compare-and-set makes the copy the truth, or not.
"""

from __future__ import annotations

import math
from dataclasses import replace

from cano_scheduler._schedule import Schedule
from cano_scheduler._state import ACTIVE, REMOVED, Entry, State
from cano_scheduler._times import run_id_of
from cano_scheduler._triggers import EveryTrigger
from cano_scheduler.tick import Tick

CHUNK = 1000
"""How many nominal times are decided in one go."""
_QUEUE = 100


class Decision:
    """What is to be done, once the state that goes with it is the truth.

    Attributes:
        starts: the runs to start.
        cancels: ids of the runs to cancel first.
        ticks: what became of which time.
        more: whether further times are due.
        due: when the next time after those decided is due, where that is known.
    """

    __slots__ = ("cancels", "due", "more", "starts", "ticks")

    def __init__(self) -> None:
        self.starts: list[Entry] = []
        self.cancels: list[str] = []
        self.ticks: list[Tick] = []
        self.more = False
        self.due: int | None = None


def belongs(schedule: Schedule, state: State) -> bool:
    """Whether `state` is that of `schedule` as it is defined here: not removed, nor defined anew by a newer process."""
    return state.standing != REMOVED and state.definition == schedule.trigger.definition


def decide(schedule: Schedule, state: State, now: int) -> Decision | None:
    """Decide the nominal times that are due by `now`; None where there are none.

    Args:
        schedule: the definition.
        state: where it stands; it is changed.
        now: microseconds since the epoch.
    """
    if not belongs(schedule, state):
        return None
    next, anchor = schedule.trigger.next, state.anchor
    first = next(state.cursor, anchor)
    if first is None or (due := schedule.due(first, anchor) if schedule.jitter else first) > now:
        return None
    decision = Decision()
    second = next(first, anchor)
    decision.due = schedule.due(second, anchor) if second is not None and schedule.jitter else second
    if (decision.due is None or decision.due > now) and now - due <= schedule.grace:
        _one(schedule, state, first, due, now, decision)  # as it nearly always is
    else:
        decision.due = None
        _several(schedule, state, now, decision)
    return decision


def _one(schedule: Schedule, state: State, nominal: int, due: int, now: int, decision: Decision) -> None:
    """Decide a nominal time that was not missed."""
    if (reason := blocked(state, now)) is not None:
        _skip(schedule, state, "time", nominal, reason, now, decision)
    else:
        admit(schedule, state, Entry(run_id_of(schedule.id, nominal), "time", nominal, due, now), now, decision)
    state.cursor = nominal


def _several(schedule: Schedule, state: State, now: int, decision: Decision) -> None:
    """Decide all that is due, where some of it was missed."""
    keep = {"skip": 0, "once": 1, "all": schedule.limit}[schedule.misfire]
    _jump(schedule, state, now, keep, decision)
    times: list[int] = []
    at: int | None = state.cursor
    while at is not None and len(times) < CHUNK + keep:
        at = schedule.next(at, state.anchor)
        if at is None or schedule.due(at, state.anchor) > now:
            break
        times.append(at)
    else:
        decision.more = True
        times = times[:CHUNK]  # newer ones are due too, so that none of these is among those to keep
    missed = sum(now - schedule.due(at, state.anchor) > schedule.grace for at in times)
    dropped = missed if decision.more else missed - keep
    for number, at in enumerate(times):
        if number < dropped:
            _skip(schedule, state, "time", at, blocked(state, now) or "misfire", now, decision)
            state.cursor = at
        else:
            _one(schedule, state, at, schedule.due(at, state.anchor), now, decision)


def _jump(schedule: Schedule, state: State, now: int, keep: int, decision: Decision) -> None:
    """Skip the far past of an interval at once, however many times that are."""
    trigger = schedule.trigger
    if not isinstance(trigger, EveryTrigger):
        return
    until = now - schedule.grace - schedule.jitter - (keep + 1) * trigger.interval
    count, last = trigger.jump(state.cursor, until, state.anchor)
    if count > CHUNK:
        first = trigger.next(state.cursor, state.anchor)
        reason = blocked(state, now) or "misfire"
        tick = Tick(schedule.id, "time", "skipped", reason, None, first, now, count, last)
        state.cursor = last
        state.count(tick)
        decision.ticks.append(tick)


def blocked(state: State, now: int) -> str | None:
    """Why the schedule fires nothing at present, or None."""
    if state.standing != ACTIVE:
        return state.standing
    return "backoff" if state.blocked_until is not None and now < state.blocked_until else None


def admit(schedule: Schedule, state: State, entry: Entry, now: int, decision: Decision) -> None:
    """Start `entry`, let it wait, or skip it, as the schedule's policy for overlaps says."""
    if not state.active and not state.queue:
        start(schedule, state, entry, now, decision)
        return
    running, number = state.running(), schedule.overlap_limit
    places = {"queue": 1, "allow": number or math.inf}.get(schedule.overlap, number or 1)
    if len(running) < places and not state.queue:
        start(schedule, state, entry, now, decision)
    elif schedule.overlap == "replace":
        for old in running[: len(running) - int(places) + 1]:
            state.active[old.run_id] = replace(old, cancelled=True)
            decision.cancels.append(old.run_id)
        start(schedule, state, entry, now, decision)
    elif schedule.overlap != "queue":
        _skip(schedule, state, entry.kind, entry.nominal, "overlap", now, decision)
    elif len(state.queue) < (number or _QUEUE):
        state.queue.append(entry)
    else:
        _skip(schedule, state, entry.kind, entry.nominal, "queue full", now, decision)


def start(schedule: Schedule, state: State, entry: Entry, now: int, decision: Decision) -> None:
    """Start `entry`."""
    late = entry.kind == "time" and now - entry.due > schedule.grace
    reason = None if not late else "misfire" if entry.at == now else "queued"
    state.active[entry.run_id] = entry = replace(entry, at=now) if entry.at != now else entry
    state.runs += 1
    state.last_run = now
    tick = Tick(schedule.id, entry.kind, "late" if late else "fired", reason, entry.run_id, entry.nominal, now)
    state.count(tick)
    decision.starts.append(entry)
    decision.ticks.append(tick)


def start_waiting(schedule: Schedule, state: State, now: int, decision: Decision) -> None:
    """Start what waits in the queue, if nothing is under way; what may not start at present is skipped."""
    while state.queue and not state.running():
        entry = state.queue.pop(0)
        if (reason := blocked(state, now)) is not None:
            _skip(schedule, state, entry.kind, entry.nominal, reason, now, decision)
        else:
            start(schedule, state, entry, now, decision)


def waiting(schedule: Schedule, state: State, now: int) -> Decision | None:
    """Start what waits although nothing is under way, because a process stopped in between; None where nothing does."""
    if not state.queue or state.running():
        return None
    decision = Decision()
    start_waiting(schedule, state, now, decision)
    return decision


def _skip(
    schedule: Schedule, state: State, kind: str, nominal: int | None, reason: str, now: int, decision: Decision
) -> None:
    tick = Tick(schedule.id, kind, "skipped", reason, None, nominal, now, 1, nominal)
    state.count(tick)
    before = decision.ticks[-1] if decision.ticks else None
    alike = before is not None and (before.kind, before.reason) == ("time", reason) and not before.run_id
    # times that waited in a queue need not follow each other: one line stands for times without a gap only
    if alike and before is not None and kind == "time" and _follows(schedule, state, before, nominal):
        decision.ticks[-1] = before._replace(times=before.times + 1, last_us=nominal)
    else:
        decision.ticks.append(tick)


def _follows(schedule: Schedule, state: State, before: Tick, nominal: int | None) -> bool:
    return before.last_us is not None and schedule.next(before.last_us, state.anchor) == nominal


def drop_waiting(schedule: Schedule, state: State, now: int, decision: Decision) -> None:
    """Skip all that waits in the queue, because the schedule is removed."""
    for entry in state.queue:
        _skip(schedule, state, entry.kind, entry.nominal, REMOVED, now, decision)
    state.queue.clear()
