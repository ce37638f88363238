"""Starting, stopping, pausing, triggering, emitting, backfilling and removing."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cano import ConfigurationError, Kernel, KeyValueStore, RunCancelledError, SchedulerError, Workflow
from cano_scheduler import Scheduler

from tests.plugins.scheduler.conftest import Diary


async def test_it_starts_once(kernel: Kernel) -> None:
    """A second start is an error; after a stop it may start again."""
    scheduler = Scheduler(kernel)
    await scheduler.start()
    with pytest.raises(SchedulerError, match="already running"):
        await scheduler.start()
    await scheduler.stop()
    await scheduler.stop()
    await scheduler.start()
    assert scheduler.running
    await scheduler.stop()


@pytest.mark.parametrize("method", ["trigger", "pause", "resume", "reset", "remove", "status", "history", "upcoming"])
async def test_an_unknown_id_is_an_error(kernel: Kernel, diary: Diary, method: str) -> None:
    """It names those that there are."""
    scheduler = Scheduler(kernel).manual("known", diary.flow())
    with pytest.raises(SchedulerError, match="there is no schedule 'unknown'; known schedules: 'known'"):
        await getattr(scheduler, method)("unknown")
    with pytest.raises(SchedulerError, match="unknown"):
        await scheduler.backfill("unknown", datetime.now(UTC), datetime.now(UTC))


async def test_stop_lets_runs_end(kernel: Kernel, diary: Diary) -> None:
    """Those that end within the timeout succeed, and nothing new begins."""
    scheduler = Scheduler(kernel).every("e", diary.flow(takes=3), 1, overlap="queue")
    await scheduler.start()
    await kernel.clock.sleep(1.5)
    await scheduler.stop(5)
    assert (len(diary.runs), diary.cancelled, diary.active) == (1, 0, 0)
    info = await scheduler.status("e")
    assert (info.running, info.queued) == ((), ("e@2023-11-14T22:13:21Z",))


async def test_stop_cancels_what_takes_longer(kernel: Kernel, diary: Diary) -> None:
    """After the timeout runs are cancelled and awaited; they have not failed."""
    scheduler = Scheduler(kernel).every("e", diary.flow(takes=60), 100)
    await scheduler.start()
    await kernel.clock.sleep(1)
    begin = kernel.clock.time()
    await scheduler.stop(2)
    assert kernel.clock.time() - begin == pytest.approx(2)
    info = await scheduler.status("e")
    assert (diary.cancelled, diary.active, info.failures, info.cancelled) == (1, 0, 0, 1)


async def test_what_waits_goes_on_after_a_restart(kernel: Kernel, diary: Diary) -> None:
    """A queue outlives a stop."""
    scheduler = Scheduler(kernel).on("o", diary.flow(takes=3), "order", overlap="queue")
    async with scheduler:
        await scheduler.emit("order", {"n": 1}, id="one")
        await scheduler.emit("order", {"n": 2}, id="two")
    assert diary.ids == ["o@order:one"]
    async with scheduler:
        await kernel.clock.sleep(1)
    assert [(run_id, data) for run_id, _, data in diary.runs] == [
        ("o@order:one", {"n": 1}),
        ("o@order:two", {"n": 2}),
    ]


async def test_pause_and_resume(kernel: Kernel, diary: Diary) -> None:
    """What is due meanwhile is skipped, with a reason; after it nothing is caught up."""
    async with Scheduler(kernel).every("e", diary.flow(), 1) as scheduler:
        await kernel.clock.sleep(1.5)
        await scheduler.pause("e")
        assert (await scheduler.status("e")).state == "paused"
        await kernel.clock.sleep(2)
        await scheduler.resume("e")
        await kernel.clock.sleep(1)
        ticks = [tick.reason or tick.outcome for tick in await scheduler.history("e")]
    assert ticks == ["fired", "fired", "paused", "paused", "fired"]


async def test_a_pause_without_a_running_scheduler_counts_too(kernel: Kernel, diary: Diary) -> None:
    """Times that pass while it is paused and stopped are skipped as paused."""
    scheduler = Scheduler(kernel).every("e", diary.flow(), 1)
    async with scheduler:
        await kernel.clock.sleep(0.5)
        await scheduler.pause("e")
    await kernel.clock.sleep(3)
    await scheduler.resume("e")
    assert [(t.reason, t.times) for t in await scheduler.history("e")][1:] == [("paused", 3)]


async def test_trigger_returns_the_runs_handle(kernel: Kernel, diary: Diary) -> None:
    """Its data cover the schedule's; a paused schedule can be triggered."""
    async with Scheduler(kernel).manual("m", diary.flow(), data={"a": 1, "b": 1}) as scheduler:
        await scheduler.pause("m")
        result = await (await scheduler.trigger("m", {"b": 2})).result()
        assert (result.state, result.data) == ("done", {"a": 1, "b": 2})
        (tick,) = await scheduler.history("m")
    assert (tick.kind, tick.outcome, tick.nominal) == ("trigger", "fired", None)


async def test_a_trigger_can_be_cancelled(kernel: Kernel, diary: Diary) -> None:
    """The handle is the run's."""
    async with Scheduler(kernel).manual("m", diary.flow(takes=9)) as scheduler:
        handle = await scheduler.trigger("m")
        await handle.cancel()
        with pytest.raises(RunCancelledError):
            await handle.result()


async def test_an_event_runs_who_waits_for_it(kernel: Kernel, diary: Diary) -> None:
    """Every schedule on that event, and no other; overlaps are treated as usual."""
    scheduler = Scheduler(kernel)
    scheduler.on("a", diary.flow("a", takes=5), "order", data={"x": 1})
    scheduler.on("b", diary.flow("b", takes=5), "order", overlap="allow")
    scheduler.on("c", diary.flow("c"), "other")
    async with scheduler:
        assert len(await scheduler.emit("order", {"n": 1})) == 2
        assert len(await scheduler.emit("order", {"n": 2})) == 1
        assert await scheduler.emit("nobody") == []
        await kernel.clock.sleep(1)
        assert [tick.reason for tick in await scheduler.history("a")] == [None, "overlap"]
    assert [data for _, _, data in diary.runs] == [{"x": 1, "n": 1}, {"n": 1}, {"n": 2}]


async def test_an_event_of_one_id_counts_once(kernel: Kernel, diary: Diary) -> None:
    """Also after its run has ended."""
    async with Scheduler(kernel).on("a", diary.flow(), "order") as scheduler:
        (first,) = await scheduler.emit("order", id="17")
        await first.result()
        await kernel.clock.sleep(1)
        assert await scheduler.emit("order", id="17") == []
        assert len(await scheduler.emit("order", id="18")) == 1


async def test_removed_means_forgotten(kernel: Kernel, diary: Diary) -> None:
    """Nothing is fired any more, a run under way goes on, what waits is skipped; the id is free again."""
    async with Scheduler(kernel) as scheduler:
        scheduler.every("e", diary.flow(takes=1.5), 1, overlap="queue")
        await kernel.clock.sleep(1.2)
        await scheduler.remove("e")
        assert scheduler.ids() == ()
        await kernel.clock.sleep(3)
        assert (len(diary.runs), diary.cancelled) == (1, 0)
        scheduler.every("e", diary.flow(takes=0.1), 1)
        await kernel.clock.sleep(1.5)
        ticks = [tick.reason or tick.outcome for tick in await scheduler.history("e")]
    assert ticks == ["fired", "removed", "fired", "fired"]


async def test_backfill_runs_what_has_not_run(kernel: Kernel, diary: Diary) -> None:
    """Nominal times from start to before end, each once, whatever the day; what has run is left alone."""
    scheduler = Scheduler(kernel).cron("c", diary.flow(), "0 0 * * *")
    async with scheduler:
        await kernel.clock.sleep(2 * 86_400)
        start, end = datetime(2023, 11, 10, tzinfo=UTC), datetime(2023, 11, 16, tzinfo=UTC)
        handles = await scheduler.backfill("c", start, end, limit=2)
        assert await scheduler.backfill("c", start, end) == []
    days = [f"c@2023-11-{day}T00:00:00Z" for day in (10, 11, 12, 13, 14)]
    assert [handle.run_id for handle in handles] == days
    assert diary.ids == ["c@2023-11-15T00:00:00Z", "c@2023-11-16T00:00:00Z", *days]


async def test_backfill_goes_on_after_a_failure(kernel: Kernel, diary: Diary) -> None:
    """The handles tell which failed."""
    scheduler = Scheduler(kernel).cron("c", diary.flow(fails=1), "0 0 * * *")
    start, end = datetime(2023, 11, 10, tzinfo=UTC), datetime(2023, 11, 13, tzinfo=UTC)
    handles = await scheduler.backfill("c", start, end)
    assert [handle.status().error is None for handle in handles] == [False, True, True]


async def test_backfill_is_for_the_past_of_schedules_with_times(kernel: Kernel, diary: Diary) -> None:
    """What is still to come is not missing, and a manual schedule has no times."""
    scheduler = Scheduler(kernel).cron("c", diary.flow(), "0 0 * * *").manual("m", diary.flow())
    start = datetime(2023, 11, 10, tzinfo=UTC)
    with pytest.raises(ConfigurationError, match="end must not be in the future"):
        await scheduler.backfill("c", start, datetime(2100, 1, 1, tzinfo=UTC))
    with pytest.raises(SchedulerError, match="no nominal times"):
        await scheduler.backfill("m", start, start)


async def test_upcoming_tells_the_next_times(kernel: Kernel, diary: Diary) -> None:
    """Also before it was started; a manual schedule has none."""
    scheduler = Scheduler(kernel).cron("c", diary.flow(), "@daily").manual("m", diary.flow())
    assert await scheduler.upcoming("c", 2) == (
        datetime(2023, 11, 15, tzinfo=UTC),
        datetime(2023, 11, 16, tzinfo=UTC),
    )
    assert await scheduler.upcoming("m") == ()


async def test_list_shows_all_in_order(kernel: Kernel, diary: Diary) -> None:
    """With kind and state."""
    scheduler = (
        Scheduler(kernel).manual("z", diary.flow()).every("a", diary.flow(takes=5), 10).on("o", diary.flow(), "e")
    )
    async with scheduler:
        await kernel.clock.sleep(1)
        infos = await scheduler.list()
    assert [(info.id, info.kind, info.state) for info in infos] == [
        ("z", "manual", "idle"), ("a", "every", "running"), ("o", "on", "idle"),
    ]  # fmt: skip


async def test_a_scheduled_task_cannot_stop_its_scheduler(kernel: Kernel) -> None:
    """It would wait for its own run. The call is refused, and the scheduler continues."""
    scheduler, refused = Scheduler(kernel), list[ConfigurationError]()

    async def work(store: KeyValueStore) -> str:
        try:
            await scheduler.stop(timeout=1000)
        except ConfigurationError as error:
            refused.append(error)
        return "done"

    flow: Workflow[str] = Workflow("work", name="stops").register("work", work).add_exit_state("done")
    scheduler.manual("a", flow)
    async with scheduler:
        handle = await scheduler.trigger("a")

        assert (await handle.result()).state == "done"
        assert scheduler.running
    (error,) = refused
    assert "the task of state work cannot stop its scheduler" in str(error)
    assert error.run_id == handle.run_id
