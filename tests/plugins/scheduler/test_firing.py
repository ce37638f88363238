"""When schedules fire, in virtual time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from cano import Kernel, KeyValueStore, TaskConfig, Workflow, current_step, sleep_until
from cano.testing import VirtualClock
from cano_retry import Fixed
from cano_scheduler import Scheduler, nominal_time

from tests.plugins.scheduler.conftest import Diary


async def times_of(scheduler: Scheduler, id: str, begin: float) -> list[float]:
    """The nominal times of a schedule's ticks, in seconds since `begin`."""
    return [round(t.nominal.timestamp() - begin, 6) for t in await scheduler.history(id) if t.nominal is not None]


async def test_an_interval_begins_at_the_start_and_never_drifts(kernel: Kernel, diary: Diary) -> None:
    """The first tick comes at the start; the following ones are counted from it, however long the runs take."""
    begin = kernel.clock.time()
    async with Scheduler(kernel) as scheduler:
        scheduler.every("e", diary.flow(takes=0.3), 0.5)
        await kernel.clock.sleep(2.2)
        assert await times_of(scheduler, "e", begin) == [0, 0.5, 1, 1.5, 2]


async def test_a_sub_second_interval_is_honoured(kernel: Kernel, diary: Diary) -> None:
    """A hundredth of a second is no more rounded than a day."""
    async with Scheduler(kernel) as scheduler:
        scheduler.every("e", diary.flow(), timedelta(milliseconds=10))
        await kernel.clock.sleep(0.995)
        assert (await scheduler.status("e")).fired == 100


@pytest.mark.parametrize("first", [3, timedelta(seconds=3), datetime.fromtimestamp(1_700_000_003, UTC)])
async def test_first_says_when_an_interval_begins(
    kernel: Kernel, diary: Diary, first: float | timedelta | datetime
) -> None:
    """As seconds, as a timedelta, or as a moment."""
    begin = kernel.clock.time()
    scheduler = Scheduler(kernel).every("e", diary.flow(), 2, first=first)
    async with scheduler:
        await kernel.clock.sleep(6)
        assert await times_of(scheduler, "e", begin) == [3, 5]


async def test_cron_fires_on_the_wall_clock_of_its_zone(kernel: Kernel, diary: Diary) -> None:
    """Nine o'clock in Berlin is eight o'clock UTC in winter; the run knows its nominal time."""
    scheduler = Scheduler(kernel).cron("c", diary.flow(), "0 0 9 * * *", tz="Europe/Berlin")
    async with scheduler:
        await kernel.clock.sleep(86_400)
    assert [(run_id, nominal) for run_id, nominal, _ in diary.runs] == [
        ("c@2023-11-15T08:00:00Z", datetime(2023, 11, 15, 8, tzinfo=UTC))
    ]


async def test_at_fires_once(kernel: Kernel, diary: Diary) -> None:
    """After that there is nothing left to come."""
    scheduler = Scheduler(kernel).at("a", diary.flow(), datetime.fromtimestamp(1_700_000_060, UTC))
    async with scheduler:
        assert (await scheduler.status("a")).next == datetime.fromtimestamp(1_700_000_060, UTC)
        await kernel.clock.sleep(3600)
        info = await scheduler.status("a")
    assert (info.state, info.fired, info.next, len(diary.runs)) == ("done", 1, None, 1)


async def test_at_in_the_past_was_missed(kernel: Kernel, diary: Diary) -> None:
    """It is treated as its policy says: caught up, or skipped."""
    scheduler = Scheduler(kernel)
    scheduler.at("once", diary.flow(), kernel.clock.time() - 60)
    scheduler.at("skip", diary.flow("other"), kernel.clock.time() - 60, misfire="skip")
    async with scheduler:
        await kernel.clock.sleep(1)
        assert [t.outcome for t in await scheduler.history("once")] == ["late"]
        assert [(t.outcome, t.reason) for t in await scheduler.history("skip")] == [("skipped", "misfire")]


async def test_jitter_delays_by_the_same_each_time(clock: VirtualClock, diary: Diary) -> None:
    """It depends on schedule and nominal time alone, is below its limit, and never reaches the next time."""
    rounds = []
    for _ in range(2):
        clock = VirtualClock()
        async with Kernel(discover=False, plugins=["scheduler"], clock=clock) as kernel:
            scheduler = Scheduler(kernel)
            scheduler.every("e", diary.flow(), 10, jitter=4)
            scheduler.every("dense", diary.flow("dense"), 1, jitter=3600)
            async with scheduler:
                await clock.sleep(100.5)
                rounds.append([t.delay for t in await scheduler.history("e")])
                dense = await scheduler.history("dense")
                assert [t.outcome for t in dense] == ["fired"] * len(dense)
                assert len(dense) >= 99
                assert all(0 <= t.delay < 1.1 for t in dense)
    assert rounds[0] == rounds[1]
    assert len(set(rounds[0])) > 5
    assert all(0 <= delay < 4 for delay in rounds[0])


async def test_a_schedule_may_be_added_while_it_runs(kernel: Kernel, diary: Diary) -> None:
    """An interval that is added later begins then."""
    begin = kernel.clock.time()
    async with Scheduler(kernel) as scheduler:
        await kernel.clock.sleep(1)
        scheduler.every("e", diary.flow(), 1)
        await kernel.clock.sleep(2.5)
        assert await times_of(scheduler, "e", begin) == [1, 2, 3]


async def test_a_schedule_may_be_changed_while_it_runs(kernel: Kernel, diary: Diary) -> None:
    """The new interval begins at the change; what was counted goes on."""
    begin = kernel.clock.time()
    async with Scheduler(kernel) as scheduler:
        scheduler.every("e", diary.flow(), 1)
        await kernel.clock.sleep(2.5)
        scheduler.every("e", diary.flow("other"), 0.25, replace=True)
        await kernel.clock.sleep(0.6)
        assert await times_of(scheduler, "e", begin) == [0, 1, 2, 2.5, 2.75, 3]
        assert (await scheduler.status("e")).run_count == 6


async def test_a_run_gets_the_schedules_data(kernel: Kernel, diary: Diary) -> None:
    """Each run has a copy of its own."""
    data = {"paths": ["a"]}
    scheduler = Scheduler(kernel).every("e", diary.flow(), 1, data=data)
    data["paths"].append("b")
    async with scheduler:
        await kernel.clock.sleep(0.5)
        await kernel.clock.sleep(1)
    assert [found for _, _, found in diary.runs] == [{"paths": ["a"]}] * 2


def patient(clock: VirtualClock) -> Workflow[str]:
    """Its first task succeeds at the third attempt, and then waits an hour in the store."""
    flow: Workflow[str] = Workflow("call", name="patient").add_exit_state("done")

    async def call(store: KeyValueStore) -> str:
        if current_step().attempt < 3:
            raise ConnectionError("not yet")
        return sleep_until(clock.time() + 3600, then="rest")

    async def rest(store: KeyValueStore) -> str:
        return "done"

    return flow.register("call", call, config=TaskConfig(retry=Fixed(2, 45))).register("rest", rest)


async def test_a_month_passes_in_order(diary: Diary) -> None:
    """A month of cron, intervals, retries and waits is the same each time, tick by tick."""
    rounds = []
    for _ in range(2):
        clock = VirtualClock()
        diary = Diary(clock)
        async with Kernel(discover=False, plugins=["scheduler", "memory"], clock=clock) as kernel:
            scheduler = Scheduler(kernel)
            scheduler.cron("daily", diary.flow("daily", takes=600), "30 2 * * *", tz="America/New_York")
            scheduler.cron("weekdays", diary.flow("weekdays"), "0 0 9 * * MON-FRI", tz="Asia/Kathmandu")
            scheduler.every("often", diary.flow("often", takes=30, fails=20), timedelta(hours=2), backoff=60)
            scheduler.every("slow", diary.flow("slow", takes=90_000), timedelta(days=1), overlap="queue")
            scheduler.cron("patient", patient(clock), "15 */6 * * *")
            async with scheduler:
                await clock.sleep(30 * 86_400)
                assert (await scheduler.status("patient")).run_count == 120
                assert (await scheduler.status("patient")).failures == 0
                rounds.append([await scheduler.history(id) for id in scheduler.ids()] + [diary.ids])
    assert rounds[0] == rounds[1]
    assert len(rounds[0][-1]) > 400


async def test_ten_thousand_schedules_have_one_timer(kernel: Kernel, diary: Diary, clock: VirtualClock) -> None:
    """While nothing is due there is one timer, and one task, whatever the number of schedules."""
    scheduler, flow = Scheduler(kernel), diary.flow()
    for number in range(10_000):
        scheduler.every(f"s{number}", flow, 86_400, first=3600 + number)
    await scheduler.start()
    tasks = len(asyncio.all_tasks())
    await clock.sleep(65)
    assert len([timer for _, _, timer in clock._timers if not timer.cancelled]) == 1
    assert tasks == 2  # this test, and the scheduler's
    assert diary.runs == []
    await scheduler.stop()


def test_a_run_id_tells_its_nominal_time() -> None:
    """That of an event or a trigger has none."""
    assert nominal_time("a@2026-03-08T07:30:00Z") == datetime(2026, 3, 8, 7, 30, tzinfo=UTC)
    assert nominal_time("a@order:17") is None
