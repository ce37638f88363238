"""What becomes of times that were missed: the decisions themselves, which need neither clock nor kernel."""

from __future__ import annotations

from typing import Any

import pytest
from cano import ConfigurationError, Kernel
from cano.testing import VirtualClock
from cano_scheduler import Scheduler
from cano_scheduler._decide import CHUNK, Decision, decide
from cano_scheduler._defining import cron_trigger, every_trigger, make
from cano_scheduler._lifecycle import begin
from cano_scheduler._schedule import Schedule
from cano_scheduler._state import State
from cano_scheduler._triggers import Trigger
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.plugins.scheduler.conftest import Diary

SECOND = 1_000_000


def schedule_of(trigger: Trigger, **options: Any) -> Schedule:
    """A schedule of the id "s"."""
    kernel = Kernel(discover=False)
    return make(kernel, "s", Diary(VirtualClock()).flow(), trigger, 1.0, **options)


def decided(schedule: Schedule, state: State, now: int) -> list[tuple[str, str | None, int]]:
    """All that is decided by `now`: outcome, reason and number of times."""
    found: list[tuple[str, str | None, int]] = []
    while (decision := decide(schedule, state, now)) is not None:
        found += [(tick.outcome, tick.reason, tick.times) for tick in decision.ticks]
    return found


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"misfire": "once"}, [("skipped", "misfire", 8), ("late", "misfire", 1), ("skipped", "overlap", 2)]),
        ({"misfire": "skip"}, [("skipped", "misfire", 9), ("fired", None, 1), ("skipped", "overlap", 1)]),
        (
            {"misfire": "all", "limit": 3, "overlap": "allow"},
            [("skipped", "misfire", 6), *[("late", "misfire", 1)] * 3, *[("fired", None, 1)] * 2],
        ),
        (
            {"misfire": "all", "overlap": "allow", "overlap_limit": 4},
            [*[("late", "misfire", 1)] * 4, ("skipped", "overlap", 7)],
        ),
        ({"misfire": "all", "grace": 60, "overlap": "allow"}, [("fired", None, 1)] * 11),
        ({"misfire": "all"}, [("late", "misfire", 1)]),
    ],
)
def test_missed_times_are_treated_as_the_policy_says(
    options: dict[str, Any], expected: list[tuple[str, str | None, int]]
) -> None:
    """Of times 0 to 10, looked at when the last is due; the last two are not later than the grace of a second."""
    schedule = schedule_of(every_trigger(1, None), **options)
    assert decided(schedule, begin(schedule, 0), 10 * SECOND) == expected


@given(
    st.integers(1, 5 * CHUNK),
    st.sampled_from(["once", "skip", "all"]),
    st.integers(1, 2 * CHUNK),
    st.sampled_from(["skip", "queue", "replace", "allow"]),
    st.none() | st.integers(1, 50),
    st.integers(0, 3),
    st.sampled_from(["active", "paused", "tripped"]),
    st.integers(0, 2_000_000),
)
def test_every_nominal_time_is_counted_once(
    times: int, misfire: Any, limit: int, overlap: Any, number: int | None, grace: int, status: str, jitter: int
) -> None:
    """Whatever the policies: fired, late, skipped and waiting add up to all that was due, and the cursor is there."""
    assume(misfire != "all" or overlap in ("queue", "allow"))
    schedule = schedule_of(
        every_trigger(1, None), misfire=misfire, limit=limit if misfire == "all" else None, overlap=overlap,
        overlap_limit=number, grace=grace, jitter=jitter / SECOND,
    )  # fmt: skip
    state = begin(schedule, 0)
    state.status = status
    now = times * SECOND
    rows = decided(schedule, state, now)
    due = sum(schedule.due(at * SECOND, 0) <= now for at in range(times + 1))
    assert state.fired + state.late + state.skipped + len(state.queue) == due
    assert sum(count for _, _, count in rows) == due - len(state.queue)
    assert state.cursor == (due - 1) * SECOND
    assert len(state.active) == state.runs == state.fired + state.late


async def test_all_missed_times_run_one_by_one(kernel: Kernel, diary: Diary) -> None:
    """By default: each of the last `limit` times has its run, in order, however long they take."""
    scheduler = Scheduler(kernel).every("e", diary.flow(takes=1), 10, misfire="all", limit=150)
    async with scheduler:
        await kernel.clock.sleep(1)
    await kernel.clock.sleep(2005)
    async with scheduler:
        await kernel.clock.sleep(200)
        info = await scheduler.status("e")
    assert diary.peak == 1
    assert len(diary.ids) == info.run_count == info.fired + info.late
    assert info.skipped == 200 - 150
    assert diary.ids == sorted(diary.ids)


@pytest.mark.parametrize("overlap", ["skip", "replace"])
def test_all_missed_times_need_room(overlap: str) -> None:
    """The policies under which one missed time at most would run are refused with `misfire="all"`."""
    with pytest.raises(ConfigurationError, match=f"overlap='{overlap}' lets one run; use overlap='queue' or 'allow'"):
        schedule_of(every_trigger(1, None), misfire="all", overlap=overlap)


def test_a_year_of_milliseconds_is_skipped_at_once() -> None:
    """31 billion missed times are one line."""
    schedule = schedule_of(every_trigger(0.001, None), misfire="once")
    state = begin(schedule, 0)
    rows = decided(schedule, state, 365 * 86_400 * SECOND)
    assert len(rows) < 2 + 1000
    assert sum(count for _, _, count in rows) == 365 * 86_400 * 1000 + 1
    assert rows[0][:2] == ("skipped", "misfire")


@pytest.mark.parametrize(
    ("expression", "days"),
    [("* * * * * *", 365), ("* * * * *", 30 * 365), ("*/5 * 1-7 * MON", 30 * 365), ("0 0 29 2 *", 80 * 365)],
)
def test_years_of_cron_are_skipped_at_once(expression: str, days: int) -> None:
    """Missed times are counted, and only those that the policy keeps are visited: one tick covers the others."""
    trigger = cron_trigger(expression, "Europe/Berlin", None, None)
    visited, following = 0, trigger.next

    def counting(after: int, anchor: int) -> int | None:
        nonlocal visited
        visited += 1
        return following(after, anchor)

    trigger.next = counting  # type: ignore[method-assign]  # it counts
    schedule = schedule_of(trigger)
    now = days * 86_400 * SECOND
    rows = decided(schedule, state := begin(schedule, 0), now)
    assert rows[0][:2] == ("skipped", "misfire")
    assert [outcome for outcome, _, _ in rows[1:]][:1] == ["late"]
    assert sum(times for _, _, times in rows) == trigger.count(0, now, 0)
    assert visited < 20
    assert trigger.count(state.cursor, now, 0) == 0


@given(st.integers(1, 50), st.integers(-200, 200), st.integers(0, 300), st.integers(-100, 300), st.integers(1, 40))
def test_intervals_are_counted_without_visiting_them(
    interval: int, after: int, span: int, anchor: int, number: int
) -> None:
    """As one finds by going through them."""
    trigger, found, at = every_trigger(interval / SECOND, None), list[int](), after
    while (at := trigger.next(at, anchor)) <= after + span:
        found.append(at)
    assert trigger.count(after, after + span, anchor) == len(found)
    assert trigger.latest(number, after, after + span, anchor) == (found[-number] if number <= len(found) else None)


def test_nothing_is_decided_before_it_is_due() -> None:
    """The state is as it was, and there is nothing to commit."""
    schedule = schedule_of(every_trigger(1, 5))
    state = begin(schedule, 0)
    before = state.packed()
    nothing: Decision | None = decide(schedule, state, 5 * SECOND - 1)
    assert nothing is None
    assert state.packed() == before


async def test_a_scheduler_that_was_stopped_catches_up(kernel: Kernel, diary: Diary) -> None:
    """Restart moves nothing: the times stay on their grid, and what was missed meanwhile is told."""
    begin_time = kernel.clock.time()
    scheduler = Scheduler(kernel).every("e", diary.flow(), 10)
    await scheduler.start()
    await kernel.clock.sleep(15)
    await scheduler.stop()
    await kernel.clock.sleep(40)
    await scheduler.start()
    await kernel.clock.sleep(10)
    await scheduler.stop()
    ticks = await scheduler.history("e")
    assert [(t.outcome, t.reason, t.times) for t in ticks] == [
        ("fired", None, 1), ("fired", None, 1), ("skipped", "misfire", 3), ("late", "misfire", 1), ("fired", None, 1),
    ]  # fmt: skip
    assert [t.nominal_us for t in ticks] == [round((begin_time + s) * SECOND) for s in (0, 10, 20, 50, 60)]
