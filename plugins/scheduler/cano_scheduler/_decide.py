"""Deciding nominal times: functions that change a `State` and return a `Decision`, without I/O or side effects.

A process decides on its own copy of the state. A compare-and-set then stores that copy, or discards it with its
decision.
"""

from __future__ import annotations

import math
from dataclasses import replace

from cano_scheduler._schedule import Schedule
from cano_scheduler._state import ACTIVE, REMOVED, Job, State
from cano_scheduler._times import run_id_of
from cano_scheduler.tick import Tick

CHUNK = 1000
"""How many nominal times one decision covers at most, beyond those that it skips as missed."""
QUEUE_LIMIT = 100
"""The maximum length of a queue, by default."""


class Decision:
    """The actions that follow from a changed state, to be taken once that state is stored.

    Attributes:
        starts: the runs to start.
        cancels: the ids of the runs to cancel first.
        ticks: the outcome of each decided time.
        more: whether more nominal times are due.
        due: when the next nominal time is due, in microseconds since the epoch; None if that is unknown.
    """

    __slots__ = ("cancels", "due", "more", "starts", "ticks")

    def __init__(self) -> None:
        self.starts: list[Job] = []
        self.cancels: list[str] = []
        self.ticks: list[Tick] = []
        self.more = False
        self.due: int | None = None


def is_current(schedule: Schedule, state: State) -> bool:
    """Return whether `state` belongs to this definition: not removed, and not redefined by a newer process."""
    return state.status != REMOVED and state.definition == schedule.trigger.definition


def decide(schedule: Schedule, state: State, now: int) -> Decision | None:
    """Decide the nominal times that are due by `now`. Return None if there are none.

    Args:
        schedule: the definition.
        state: its state, which is changed.
        now: microseconds since the epoch.
    """
    if not is_current(schedule, state):
        return None
    next, anchor = schedule.trigger.next, state.anchor
    first = next(state.cursor, anchor)
    if first is None or (due := schedule.due(first, anchor) if schedule.jitter else first) > now:
        return None
    decision = Decision()
    second = next(first, anchor)
    decision.due = schedule.due(second, anchor) if second is not None and schedule.jitter else second
    if (decision.due is None or decision.due > now) and now - due <= schedule.grace:
        _decide_one(schedule, state, first, due, now, decision)  # the usual case
    else:
        decision.due = None
        _decide_several(schedule, state, now, decision)
    return decision


def _decide_one(schedule: Schedule, state: State, nominal: int, due: int, now: int, decision: Decision) -> None:
    """Decide a nominal time that was not missed."""
    if (reason := block_reason(state, now)) is not None:
        _skip(schedule, state, "time", nominal, reason, now, decision)
    else:
        admit(schedule, state, Job(run_id_of(state.key, nominal), "time", nominal, due, now), now, decision)
    state.cursor = nominal


def _decide_several(schedule: Schedule, state: State, now: int, decision: Decision) -> None:
    """Decide several due times, of which some may have been missed: at most `CHUNK` beyond those that are skipped."""
    _skip_missed(schedule, state, now, {"skip": 0, "once": 1, "all": schedule.limit}[schedule.misfire], decision)
    for _ in range(CHUNK):
        at = schedule.next(state.cursor, state.anchor)
        if at is None or (due := schedule.due(at, state.anchor)) > now:
            return
        _decide_one(schedule, state, at, due, now, decision)
    decision.more = True


def _skip_missed(schedule: Schedule, state: State, now: int, keep: int, decision: Decision) -> None:
    """Skip all missed times but the last `keep` with one tick. They are counted, not visited: there may be millions."""
    trigger, anchor, limit = schedule.trigger, state.anchor, now - schedule.grace
    last = trigger.latest(1, state.cursor, limit - 1, anchor)
    if last is None:
        return
    # jitter is less than the time to the next nominal time, so that only the last one may be on time
    on_time = schedule.due(last, anchor) >= limit
    stop = trigger.latest(keep + on_time + 1, state.cursor, limit - 1, anchor)
    if stop is None:
        return
    reason, first = block_reason(state, now) or "misfire", trigger.next(state.cursor, anchor)
    times = trigger.count(state.cursor, stop, anchor)
    tick = Tick(schedule.id, "time", "skipped", reason, None, first, now, times, stop)
    state.cursor = stop
    state.count(tick)
    decision.ticks.append(tick)


def block_reason(state: State, now: int) -> str | None:
    """Return why the schedule fires nothing at present: a status or "backoff"; None if it fires."""
    if state.status != ACTIVE:
        return state.status
    return "backoff" if state.blocked_until is not None and now < state.blocked_until else None


def admit(schedule: Schedule, state: State, job: Job, now: int, decision: Decision) -> None:
    """Start, queue or skip `job`, according to the schedule's overlap policy."""
    if not state.active and not state.queue:
        start(schedule, state, job, now, decision)
        return
    running, number = state.running(), schedule.overlap_limit
    slots = {"queue": 1, "allow": number or math.inf}.get(schedule.overlap, number or 1)
    if len(running) < slots and not state.queue:
        start(schedule, state, job, now, decision)
    elif schedule.overlap == "replace":
        for old in running[: len(running) - int(slots) + 1]:
            state.active[old.run_id] = replace(old, cancelled=True)
            decision.cancels.append(old.run_id)
        start(schedule, state, job, now, decision)
    elif schedule.overlap != "queue":
        _skip(schedule, state, job.kind, job.nominal, "overlap", now, decision)
    elif len(state.queue) < (number or QUEUE_LIMIT):
        state.queue.append(job)
    else:
        _skip(schedule, state, job.kind, job.nominal, "queue full", now, decision)


def start(schedule: Schedule, state: State, job: Job, now: int, decision: Decision) -> None:
    """Add `job` to the active jobs and to the runs to start."""
    late = job.kind == "time" and now - job.due > schedule.grace
    reason = None if not late else "misfire" if job.at == now else "queued"
    state.active[job.run_id] = job = replace(job, at=now) if job.at != now else job
    state.runs += 1
    state.last_run = now
    tick = Tick(schedule.id, job.kind, "late" if late else "fired", reason, job.run_id, job.nominal, now)
    state.count(tick)
    decision.starts.append(job)
    decision.ticks.append(tick)


def start_queued(schedule: Schedule, state: State, now: int, decision: Decision) -> None:
    """Start the next queued job if none is running. While the schedule is blocked, skip queued jobs instead."""
    while state.queue and not state.running():
        job = state.queue.pop(0)
        if (reason := block_reason(state, now)) is not None:
            _skip(schedule, state, job.kind, job.nominal, reason, now, decision)
        else:
            start(schedule, state, job, now, decision)


def start_queue_if_idle(schedule: Schedule, state: State, now: int) -> Decision | None:
    """Start the next queued job if none is running, as after the stop of a process. Return None if there is none."""
    if not state.queue or state.running():
        return None
    decision = Decision()
    start_queued(schedule, state, now, decision)
    return decision


def _skip(
    schedule: Schedule, state: State, kind: str, nominal: int | None, reason: str, now: int, decision: Decision
) -> None:
    tick = Tick(schedule.id, kind, "skipped", reason, None, nominal, now, 1, nominal)
    state.count(tick)
    before = decision.ticks[-1] if decision.ticks else None
    alike = before is not None and (before.kind, before.reason) == ("time", reason) and not before.run_id
    # one tick covers adjacent times only, and times from the queue need not be adjacent
    if alike and before is not None and kind == "time" and _is_next(schedule, state, before, nominal):
        decision.ticks[-1] = before._replace(times=before.times + 1, last_us=nominal)
    else:
        decision.ticks.append(tick)


def _is_next(schedule: Schedule, state: State, before: Tick, nominal: int | None) -> bool:
    return before.last_us is not None and schedule.next(before.last_us, state.anchor) == nominal


def drop_queue(schedule: Schedule, state: State, now: int, decision: Decision) -> None:
    """Skip all queued jobs, because the schedule is removed."""
    for job in state.queue:
        _skip(schedule, state, job.kind, job.nominal, REMOVED, now, decision)
    state.queue.clear()
