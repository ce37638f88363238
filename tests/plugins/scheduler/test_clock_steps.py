"""The wall clock is set while the scheduler runs: back, or forward."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cano import Kernel
from cano.testing import VirtualClock
from cano_scheduler import Scheduler

from tests.plugins.scheduler.conftest import Diary, MakeKernel

HOUR = 3600.0


def step(clock: VirtualClock, seconds: float) -> None:
    """Set the wall clock, but not the monotonic one."""
    clock._wall += seconds


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("seconds", [-2 * HOUR, -2.5, -1234.56789])
async def test_an_interval_goes_on_when_the_clock_is_set_back(
    kernel: Kernel, make_kernel: MakeKernel, diary: Diary, clock: VirtualClock, stored: bool, seconds: float
) -> None:
    """Its runs keep their distance, each has an id of its own, and no time counts as missed."""
    async with make_kernel() if stored else kernel as used, Scheduler(used) as scheduler:
        scheduler.every("e", diary.flow(), 10)
        await clock.sleep(35)
        step(clock, seconds)
        await clock.sleep(40)
        info = await scheduler.status("e")
    assert len(set(diary.ids)) == info.run_count == info.fired == 8
    assert (info.late, info.skipped) == (0, 0)


async def test_a_clock_that_is_set_back_is_one_event_for_many_processes(
    make_kernel: MakeKernel, diary: Diary, clock: VirtualClock
) -> None:
    """Each of them notices it, and the interval goes on once."""
    async with make_kernel() as one, make_kernel() as two:
        first, second = (Scheduler(kernel).every("e", diary.flow(), 10) for kernel in (one, two))
        async with first, second:
            await clock.sleep(35)
            step(clock, -HOUR)
            await clock.sleep(40)
            assert (await first.status("e")).run_count == (await second.status("e")).run_count == 8
    assert len(set(diary.ids)) == 8


async def test_times_of_day_are_not_repeated(kernel: Kernel, diary: Diary, clock: VirtualClock) -> None:
    """A cron expression, and an interval from a given time, fire once a day, and at that time of day."""
    first = datetime.fromtimestamp(clock.time() + 60, UTC)
    async with Scheduler(kernel) as scheduler:
        scheduler.every("day", diary.flow(), 24 * HOUR, first=first)
        scheduler.cron("cron", diary.flow(), f"{first.second} {first.minute} {first.hour} * * *")
        await clock.sleep(120)
        step(clock, -HOUR)
        await clock.sleep(2 * HOUR)
        assert len(diary.ids) == 2
        await clock.sleep(24 * HOUR)
    assert len(diary.ids) == len(set(diary.ids)) == 4
    assert {at.time() for _, at, _ in diary.runs if at is not None} == {first.time()}


async def test_an_interval_from_a_given_time_keeps_its_times(kernel: Kernel, diary: Diary, clock: VirtualClock) -> None:
    """It goes on with the next one, a microsecond later than the one of that time that was fired before."""
    first = datetime.fromtimestamp(clock.time() + 3, UTC)
    async with Scheduler(kernel) as scheduler:
        scheduler.every("e", diary.flow(), 10, first=first)
        await clock.sleep(25)
        step(clock, -HOUR)
        await clock.sleep(30)
    assert len(diary.ids) == len(set(diary.ids)) == 3 + 3
    assert {at.second % 10 for _, at, _ in diary.runs if at is not None} == {first.second % 10}


async def test_a_time_comes_soon_after_the_clock_is_put_forward(
    kernel: Kernel, diary: Diary, clock: VirtualClock
) -> None:
    """No timer sleeps longer than a minute, as after a boot in 1970."""
    async with Scheduler(kernel) as scheduler:
        scheduler.at("a", diary.flow(), clock.time() + 24 * HOUR)
        await clock.sleep(1)
        step(clock, 24 * HOUR)
        await clock.sleep(61)
    assert len(diary.ids) == 1


async def test_a_run_is_taken_over_after_the_clock_was_set_back(
    make_kernel: MakeKernel, diary: Diary, clock: VirtualClock
) -> None:
    """The checks of the store go by the monotonic clock."""
    async with make_kernel() as one, make_kernel() as two:
        first, second = (Scheduler(kernel).every("e", diary.flow(takes=50), 1000) for kernel in (one, two))
        await first.start()
        async with second:
            await clock.sleep(1)
            (run_id,) = (await second.status("e")).running
            step(clock, -2 * HOUR)
            await one.close()  # interrupts the run
            await clock.sleep(60)
            assert (await second.status("e")).running == ()
            await first.stop(0)
    assert diary.ids == [run_id] * 2
