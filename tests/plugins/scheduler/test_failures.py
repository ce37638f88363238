"""Flows that fail: counted, backed off from, tripped."""

from __future__ import annotations

from typing import Any

import pytest
from cano import Kernel, WaitStrategy
from cano_scheduler import Scheduler

from tests.plugins.scheduler.conftest import Diary


async def skipped(scheduler: Scheduler, id: str) -> list[str]:
    """Each nominal time: "fired", or why it was skipped."""
    return [tick.reason or tick.outcome for tick in await scheduler.history(id) for _ in range(tick.times)]


async def test_failures_are_counted_and_told(kernel: Kernel, diary: Diary) -> None:
    """A failing run changes nothing for the next ones, unless told."""
    async with Scheduler(kernel).every("e", diary.flow(fails=2), 1) as scheduler:
        await kernel.clock.sleep(3.5)
        info = await scheduler.status("e")
    assert (info.run_count, info.failures, info.streak, info.state) == (4, 2, 0, "idle")
    assert "ValueError: as it was told to" in str(info.last_error)


async def test_a_failing_flow_is_backed_off_from(kernel: Kernel, diary: Diary) -> None:
    """The pauses double, and end with a success."""
    async with Scheduler(kernel).every("e", diary.flow(fails=3), 1, backoff=1.5) as scheduler:
        await kernel.clock.sleep(15.5)
        fired = await skipped(scheduler, "e")
    assert fired == ["fired", "backoff", "fired", *["backoff"] * 2, "fired", *["backoff"] * 5, *["fired"] * 5]


async def test_a_retry_strategy_may_say_how_long_and_when_to_give_up(kernel: Kernel, diary: Diary) -> None:
    """Where it gives up the schedule is tripped."""

    class Twice:
        def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
            assert isinstance(error.__cause__, ValueError)
            return 2.5 if attempt < 2 else None

    async with Scheduler(kernel).every("e", diary.flow(fails=9), 1, backoff=Twice()) as scheduler:
        await kernel.clock.sleep(5.5)
        assert await skipped(scheduler, "e") == ["fired", "backoff", "backoff", "fired", "tripped", "tripped"]


async def test_a_schedule_trips_and_is_reset(kernel: Kernel, diary: Diary) -> None:
    """After so many failures in a row nothing is fired until somebody resets it."""
    async with Scheduler(kernel).every("e", diary.flow(fails=2), 1, trip_after=2) as scheduler:
        await kernel.clock.sleep(3.5)
        assert (await scheduler.status("e")).state == "tripped"
        await scheduler.reset("e")
        await kernel.clock.sleep(2)
        assert await skipped(scheduler, "e") == ["fired", "fired", "tripped", "tripped", "fired", "fired"]
        assert (await scheduler.status("e")).last_error is None


async def test_a_trigger_that_succeeds_closes_a_tripped_schedule(kernel: Kernel, diary: Diary) -> None:
    """It has shown that the flow works again."""
    async with Scheduler(kernel).every("e", diary.flow(fails=1), 1, trip_after=1) as scheduler:
        await kernel.clock.sleep(1.5)
        await (await scheduler.trigger("e")).result()
        await kernel.clock.sleep(1)
        assert await skipped(scheduler, "e") == ["fired", "tripped", "fired", "fired"]


async def test_a_cancelled_run_is_not_a_failed_one(kernel: Kernel, diary: Diary) -> None:
    """It neither counts as a failure nor trips."""
    async with Scheduler(kernel).manual("m", diary.flow(takes=60), trip_after=1) as scheduler:
        handle = await scheduler.trigger("m")
        await kernel.clock.sleep(1)
        await handle.cancel()
        await kernel.clock.sleep(1)
        info = await scheduler.status("m")
    assert (info.state, info.failures, info.cancelled, info.run_count) == ("idle", 0, 1, 1)


async def test_a_batch_counts_every_failure(kernel: Kernel, diary: Diary) -> None:
    """Three of five runs fail: three failures, in one failed tick."""
    scheduler = Scheduler(kernel).every("b", diary.flow(fails=3), 10, instances=5)
    async with scheduler:
        await kernel.clock.sleep(1)
        info = await scheduler.status("b")
    assert (info.run_count, info.failures, info.streak) == (1, 3, 1)
    assert len(diary.runs) == 5


async def test_a_batch_that_meets_its_quota_has_not_failed(kernel: Kernel, diary: Diary) -> None:
    """Its failures are counted all the same."""
    scheduler = Scheduler(kernel)
    scheduler.every("b", diary.flow(fails=1), 10, instances=3, wait=WaitStrategy.quota(2), trip_after=1)
    async with scheduler:
        await kernel.clock.sleep(1)
        info = await scheduler.status("b")
    assert (info.state, info.failures, info.streak) == ("idle", 1, 0)


async def test_each_run_of_a_batch_gets_its_own_data(kernel: Kernel, diary: Diary) -> None:
    """Those of the schedule, covered by those of its instance; all know the nominal time."""
    shards: list[dict[str, Any]] = [{"shard": 0}, {"shard": 1, "of": "x"}]
    scheduler = Scheduler(kernel).every("b", diary.flow(), 10, data={"of": "all"}, instances=shards)
    async with scheduler:
        await kernel.clock.sleep(1)
        handle = await scheduler.trigger("b", {"of": "hand"})
        outcome = (await handle.result()).data["batch"]
    assert [data for _, _, data in diary.runs[:2]] == [{"of": "all", "shard": 0}, {"of": "x", "shard": 1}]
    assert [nominal is not None for _, nominal, _ in diary.runs] == [True, True, False, False]
    assert (outcome["completed"], outcome["failed"], outcome["total"]) == (2, 0, 2)


@pytest.mark.parametrize("fails", [0, 1])
async def test_a_backoff_that_raises_breaks_nothing(kernel: Kernel, diary: Diary, fails: int) -> None:
    """A retry strategy that raises trips the schedule, and the end of the run is noted."""

    class Broken:
        def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
            raise RuntimeError("broken")

    async with Scheduler(kernel).every("e", diary.flow(fails=fails), 1, backoff=Broken()) as scheduler:
        await kernel.clock.sleep(1.5)
        info = await scheduler.status("e")
    assert (info.state, info.running) == ("tripped" if fails else "idle", ())


async def test_a_run_that_the_kernel_refuses_to_start_has_failed(kernel: Kernel, diary: Diary) -> None:
    """Its id is in use outside of the scheduler: the schedule counts a failure and fires the next event."""
    scheduler = Scheduler(kernel).on("e", diary.flow(), "go")
    await kernel.start(diary.flow(takes=10), run_id="e@go:1", keep=False)
    assert await scheduler.emit("go", id="1") == []
    info = await scheduler.status("e")
    assert (info.run_count, info.failures, info.running) == (1, 1, ())
    assert "e@go:1 is already running" in str(info.last_error)
    (handle,) = await scheduler.emit("go", id="2")
    assert (await handle.result()).state == "done"
