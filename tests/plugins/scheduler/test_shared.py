"""Several schedulers on one durable store: what several processes are to each other."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from cano import (
    Commit,
    ConfigurationError,
    Kernel,
    KeyValueStore,
    Retention,
    RunFilter,
    RunRecord,
    RunStatus,
    SerializationError,
    Standstill,
    StoreUnavailableError,
    Workflow,
    sleep_until,
    wait_for,
)
from cano.testing import VirtualClock
from cano_memory import MemoryBackend
from cano_msgspec.codec import MsgspecCodec
from cano_scheduler import Scheduler
from cano_scheduler.cli.formatting import table

from tests.plugins.scheduler.conftest import PLUGINS, Diary, MakeKernel


async def reasons(scheduler: Scheduler, id: str) -> list[str]:
    """What became of each tick."""
    return [tick.reason or tick.outcome for tick in await scheduler.history(id) for _ in range(tick.times)]


async def test_each_time_is_fired_by_one_of_them(make_kernel: MakeKernel, diary: Diary) -> None:
    """Three schedulers of the same definition: each nominal time runs once, and all agree on what became of it."""
    flows = [diary.flow() for _ in range(3)]
    async with make_kernel() as one, make_kernel() as two, make_kernel() as three:
        schedulers = [
            Scheduler(kernel).every("e", flow, 1, jitter=0.5)
            for kernel, flow in zip((one, two, three), flows, strict=True)
        ]
        for scheduler in schedulers:
            await scheduler.start()
        await one.clock.sleep(20.6)
        for scheduler in schedulers:
            await scheduler.stop()
        assert len(diary.ids) == len(set(diary.ids)) == 21
        infos = [await scheduler.status("e") for scheduler in schedulers]
        assert infos[0] == infos[1] == infos[2]
        assert (infos[0].fired, infos[0].run_count, infos[0].running) == (21, 21, ())


async def test_a_restart_moves_nothing(make_kernel: MakeKernel, diary: Diary) -> None:
    """A later process goes on where the earlier one stood: same grid, same counts, what was missed is told."""
    for _ in range(2):
        async with make_kernel() as kernel, Scheduler(kernel).every("e", diary.flow(), 10):
            await kernel.clock.sleep(15)
        await diary.clock.sleep(20)
    async with make_kernel() as kernel:
        scheduler = Scheduler(kernel).every("e", diary.flow(), 10)
        assert await reasons(scheduler, "e") == ["fired", "fired", "misfire", "misfire", "fired"]
        seconds = [tick.nominal.second for tick in await scheduler.history("e") if tick.nominal]
        assert seconds == [20, 30, 40, 50, 0]


async def test_old_ticks_are_discarded(make_kernel: MakeKernel, diary: Diary, store: MemoryBackend) -> None:
    """The newest ticks stay in the history, and not many more; counts go on, and so does another scheduler."""
    for total, keep in ((101, 20), (202, 20), (303, None)):
        async with make_kernel() as kernel:
            async with Scheduler(kernel, keep_ticks=keep).every("e", diary.flow(), 1) as scheduler:
                while (await scheduler.status("e")).fired < total:
                    await kernel.clock.sleep(1)
            ticks = await scheduler.history("e")
            entries = await store.history("schedule:e")
            assert [tick.outcome for tick in ticks[-20:]] == ["fired"] * 20
            assert (20 <= len(ticks) < 60 and len(entries) < 100) == (keep is not None)
            assert (await scheduler.status("e")).fired == len(diary.ids) == total


async def test_each_schedule_starts_with_one_call(
    make_kernel: MakeKernel, diary: Diary, store: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a store without schedules each is created at once; a later process loads each."""
    calls = list[str]()

    def counting(name: str) -> None:
        honest = getattr(store, name)

        async def call(*arguments: Any) -> Any:
            calls.append(name)
            return await honest(*arguments)

        monkeypatch.setattr(store, name, call)

    for name in ("load", "create", "commit"):
        counting(name)
    flow = diary.flow()
    for some, expected in ((3, ["create"] * 3), (3, ["load"] * 3), (4, ["load"] * 5 + ["create"])):
        async with make_kernel() as kernel:
            scheduler = Scheduler(kernel)
            for number in range(some):
                scheduler.every(f"e{number}", flow, 1000, first=datetime(2100, 1, 1, tzinfo=UTC))
            calls.clear()
            await scheduler.start()
            assert sorted(calls, reverse=True) == expected
            await scheduler.stop()
            assert (await scheduler.status("e0")).next == (await scheduler.status("e2")).next


async def test_each_poll_looks_at_some_of_many_schedules(
    make_kernel: MakeKernel, diary: Diary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process learns of a change by another one after as many polls as there are pages of schedules."""
    monkeypatch.setattr("cano_scheduler._stored_repository.PAGE", 2)
    flow, limits = diary.flow(), list[int | None]()
    async with make_kernel() as one, make_kernel() as two:
        first, second = Scheduler(one, poll=1000), Scheduler(two, poll=1)
        for number in range(5):
            for scheduler in (first, second):
                scheduler.every(f"e{number}", flow, 1000)
        await first.start()
        await second.start()
        assert two.backend is not None
        honest = two.backend.runs

        async def runs(filter: RunFilter) -> Sequence[RunRecord]:
            limits.append(filter.limit)
            return await honest(filter)

        monkeypatch.setattr(two.backend, "runs", runs)
        for number in range(5):
            await first.pause(f"e{number}")
        repository = second._service.repository
        found = [await repository.refresh() for _ in range(4)]
        assert found == [["e4", "e3"], ["e2", "e1"], ["e0"], []]
        assert limits == [2, 2, 2, 2]
        assert (await second.status("e0")).state == "paused"
        await first.stop()
        await second.stop()


async def test_a_pause_holds_in_every_process(make_kernel: MakeKernel, diary: Diary) -> None:
    """Told to one, obeyed by all, without waiting for a poll; and it survives them."""
    async with make_kernel() as one, make_kernel() as two:
        first = Scheduler(one, poll=1000).every("e", diary.flow(), 1)
        second = Scheduler(two, poll=1000).every("e", diary.flow(), 1)
        async with first:
            await one.clock.sleep(0.5)
            await second.pause("e")
            await one.clock.sleep(2)
            assert await reasons(first, "e") == ["fired", "paused", "paused"]
    async with make_kernel() as three:
        assert (await Scheduler(three).every("e", diary.flow(), 1).status("e")).state == "paused"


async def test_the_newest_definition_counts(make_kernel: MakeKernel, diary: Diary) -> None:
    """A process that still has an older trigger stands down, so that a rolling deployment fires nothing twice."""
    async with make_kernel() as one, make_kernel() as two:
        old, new = Scheduler(one).every("e", diary.flow(), 1), Scheduler(two).every("e", diary.flow(), 5)
        async with old:
            await one.clock.sleep(2.5)
            async with new:
                await one.clock.sleep(11)
                assert (await old.status("e")).state == "superseded"
                assert len(diary.ids) == len(set(diary.ids)) == 3 + 3


async def test_removed_holds_in_every_process(make_kernel: MakeKernel, diary: Diary) -> None:
    """The others stop firing it."""
    async with make_kernel() as one, make_kernel() as two:
        first = Scheduler(one).every("e", diary.flow(), 1)
        second = Scheduler(two).every("e", diary.flow(), 1)
        async with first:
            await one.clock.sleep(0.5)
            await second.remove("e")
            await one.clock.sleep(3)
            assert len(diary.ids) == 1


async def test_a_run_that_was_never_started_is_started_by_another(
    make_kernel: MakeKernel, diary: Diary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process dies between its decision and the start of the run: another one starts it, once."""
    async with make_kernel() as one, make_kernel() as two:
        dying = Scheduler(one).every("e", diary.flow(), 100)

        async def die(*args: Any, **options: Any) -> Any:
            raise asyncio.CancelledError

        monkeypatch.setattr(one, "start", die)
        await dying.start()
        await one.clock.sleep(0.1)
        assert (await dying.status("e")).running == ("e@2023-11-14T22:13:20Z",)
        assert diary.ids == []
        async with Scheduler(two).every("e", diary.flow(), 100) as other:
            await two.clock.sleep(5)
            info = await other.status("e")
        assert (diary.ids, info.running, info.fired) == (["e@2023-11-14T22:13:20Z"], (), 1)
        await dying.stop(0)


async def test_an_interrupted_run_is_taken_over_and_its_end_noted(make_kernel: MakeKernel, diary: Diary) -> None:
    """The process that runs it goes; another one finishes the run, and the schedule is free again."""
    one = make_kernel()
    first = Scheduler(one).every("e", diary.flow(takes=50), 100)
    await first.start()
    await diary.clock.sleep(1)
    await one.close()  # interrupts the run
    await first.stop(0)
    assert diary.cancelled == 1
    async with make_kernel() as two, Scheduler(two).every("e", diary.flow(takes=50), 100) as second:
        await two.clock.sleep(60)
        info = await second.status("e")
    assert diary.ids == ["e@2023-11-14T22:13:20Z"] * 2
    assert (info.run_count, info.failures, info.cancelled, info.running) == (1, 0, 0, ())


@pytest.mark.parametrize("part", ["value", "record"])
async def test_a_run_that_cannot_be_read_has_failed(
    make_kernel: MakeKernel, diary: Diary, store: MemoryBackend, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """It blocks neither its schedule nor the others of the process, and its record can be cancelled and deleted."""
    one = make_kernel()
    first = Scheduler(one).every("e", diary.flow(takes=50), 100, data={"x": 1})
    await first.start()
    await diary.clock.sleep(1)
    await one.close()  # interrupts the run
    await first.stop(0)
    run_id, load = "e@2023-11-14T22:13:20Z", store.load

    async def refuse(asked: str) -> RunRecord | None:
        if asked == run_id:
            raise SerializationError(f"the run {asked!r} cannot be read", key="x")
        return await load(asked)

    if part == "record":
        monkeypatch.setattr(store, "load", refuse)
    else:
        store._runs[run_id] = store._runs[run_id]._replace(data={"x": b"rubbish"})
    async with make_kernel() as two, Scheduler(two).every("e", diary.flow(), 100, data={"x": 1}) as second:
        second.every("f", diary.flow(name="other"), 10)
        await two.clock.sleep(200)
        info = await second.status("e")
        assert (info.run_count, info.failures, info.running, info.skipped) == (3, 1, (), 0)
        assert "SerializationError" in str(info.last_error)
        assert (await second.status("f")).run_count == 20
        why = await two.explain(run_id)
        assert why.reason is Standstill.UNREADABLE
        assert run_id in why.detail
        if part == "value":
            assert await two.cancel(run_id)
            assert run_id in await two.prune(Retention(on_terminal="delete"))


JOB = ["odd@x", "time", 1, 1, 1, None, False]
ODD: list[Any] = [
    {"last_run": 10**30}, {"cursor": "yesterday"}, {"active": [1]}, None, "text", {"runs": None}, {"streak": 1.5},
    {"standing": 5}, {"fired": True}, {"definition": []}, {"last_error": b"x"}, {"queue": [[5, *JOB[1:]]]},
    {"active": [[*JOB[:3], "now", *JOB[4:]]]}, {"queue": 7}, {"anchor": -(10**30)}, {"active": [JOB[:3]]},
]  # fmt: skip
"""What a corrupt state of a schedule may have in place of its values."""


@pytest.mark.parametrize("odd", ODD)
async def test_one_odd_schedule_hides_no_other(
    make_kernel: MakeKernel, diary: Diary, store: MemoryBackend, caplog: pytest.LogCaptureFixture, odd: Any
) -> None:
    """A state that cannot be read is shown as corrupt; the other schedule runs, and it does, too, once repaired."""
    async with make_kernel() as one:
        await (await _two(one, diary).trigger("odd")).result()
    record = store._runs["schedule:odd"]
    codec = MsgspecCodec()
    state = codec.decode(record.data["state"])
    data = {} if odd is None else {"state": codec.encode({**state, **odd} if isinstance(odd, dict) else odd)}
    store._runs["schedule:odd"] = record._replace(data=data)

    begun = len(diary.ids)
    async with make_kernel() as two, _two(two, diary) as scheduler:
        await two.clock.sleep(350)
        corrupt, whole = await scheduler.list()
        assert len(diary.ids) - begun == whole.run_count == 4
        with pytest.raises(SerializationError, match="the state of schedule 'odd' cannot be read"):
            await scheduler.trigger("odd")

        store._runs["schedule:odd"] = record  # it was repaired
        await two.clock.sleep(2)
        repaired = await scheduler.status("odd")
        assert (repaired.state, repaired.run_count) == ("idle", 2)

    assert [entry.message for entry in caplog.records if "out of order" in entry.message] == [
        f"schedule odd is out of order: {corrupt.last_error}"
    ]
    assert (corrupt.id, corrupt.state) == ("odd", "corrupt")
    assert "the state of schedule 'odd' cannot be read" in str(corrupt.last_error)
    assert (whole.id, whole.state) == ("whole", "idle")
    assert "corrupt" in table([corrupt, whole])


def _two(kernel: Kernel, diary: Diary) -> Scheduler:
    return Scheduler(kernel).every("odd", diary.flow(), 100).every("whole", diary.flow(name="other"), 100)


async def test_a_lost_store_is_no_failure_of_a_run(
    make_kernel: MakeKernel, diary: Diary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit that finds the store unavailable interrupts the run: it is resumed, and counts once, as a success."""
    async with make_kernel() as kernel, Scheduler(kernel).every("e", diary.flow(takes=5), 100) as scheduler:
        await kernel.clock.sleep(1)
        commit, store = MemoryBackend.commit, kernel.backend

        async def unavailable(asked: Commit) -> None:
            if asked.run_id.startswith("e@"):
                monkeypatch.undo()
                raise StoreUnavailableError("not now")
            await commit(cast(MemoryBackend, store), asked)

        monkeypatch.setattr(store, "commit", unavailable)
        await kernel.clock.sleep(60)
        info = await scheduler.status("e")
    assert (info.run_count, info.failures, info.running) == (1, 0, ())
    assert len(diary.ids) == 2


@pytest.mark.parametrize("how", ["time", "signal"])
async def test_a_run_may_wait_in_the_store(make_kernel: MakeKernel, clock: VirtualClock, how: str) -> None:
    """A parked run is under way for its schedule; a stop leaves it parked, and another process sees its end."""

    def waiting() -> Workflow[str]:
        flow: Workflow[str] = Workflow("ask", name="waiting").add_exit_state("done")

        async def ask(store: KeyValueStore) -> str:
            pause: str = wait_for("go", then="done") if how == "signal" else sleep_until(1_700_000_030, then="done")
            return pause

        return flow.register("ask", ask)

    async with make_kernel() as one, Scheduler(one).every("e", waiting(), 1000) as first:
        await clock.sleep(1)
        (run_id,) = (await first.status("e")).running
    assert clock.time() == pytest.approx(1_700_000_001, abs=1)
    async with make_kernel() as two, Scheduler(two).every("e", waiting(), 1000) as second:
        await clock.sleep(5)
        assert (await second.status("e")).state == "running"
        if how == "signal":
            await two.signal(run_id, "go")
        await clock.sleep(40)
        info = await second.status("e")
    assert (info.state, info.run_count, info.cancelled, info.failures) == ("idle", 1, 0, 0)


async def test_a_stop_leaves_a_run_to_the_process_that_executes_it(
    make_kernel: MakeKernel, diary: Diary, store: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process was quicker to start the run: a stop neither waits for it nor cancels it."""
    create = store.create
    async with make_kernel() as quick, make_kernel() as kernel:

        async def lose(run: RunRecord) -> RunRecord:
            if run.workflow == "flow" and run.run_id not in quick.active:
                monkeypatch.setattr(store, "create", create)
                await quick.start(diary.flow(takes=100), run_id=run.run_id)
            return await create(run)

        monkeypatch.setattr(store, "create", lose)
        async with Scheduler(kernel, stop_timeout=10).every("e", diary.flow(), 1000):
            await diary.clock.sleep(1)
        assert diary.clock.time() < 1_700_000_000 + 9
        (run,) = await kernel.runs(workflow="flow")
        assert (run.status, diary.cancelled) == (RunStatus.RUNNING, 0)


@pytest.mark.parametrize("takes", [0.0, 1e6], ids=["parks", "works"])
async def test_a_stop_does_not_wait_for_a_run_that_begins_late(
    make_kernel: MakeKernel, clock: VirtualClock, store: MemoryBackend, monkeypatch: pytest.MonkeyPatch, takes: float
) -> None:
    """The store holds up a run's start until after the stop: the run is left parked, or cancelled if it works."""
    flow: Workflow[str] = Workflow("ask", name="late").add_exit_state("done")

    async def ask(store: KeyValueStore) -> str:
        await clock.sleep(takes)
        pause: str = wait_for("go", then="done")
        return pause

    create = store.create

    async def slowly(run: RunRecord) -> RunRecord:
        if run.workflow == "late":
            await clock.sleep(30)
        return await create(run)

    monkeypatch.setattr(store, "create", slowly)
    late = make_kernel()
    late.lease = 100.0  # longer than the start takes
    async with late as kernel:
        scheduler = Scheduler(kernel, stop_timeout=10).every("e", flow.register("ask", ask), 1000)
        async with asyncio.timeout(60):  # of real time: it did not return
            async with scheduler:
                await clock.sleep(1)
        (run,) = [record async for record in kernel.runs(workflow="late")]
        assert run.status is (RunStatus.CANCELLED if takes else RunStatus.PARKED)
        assert clock.time() < 1_700_000_000 + 100


async def test_a_stop_returns_on_a_store_in_a_file(clock: VirtualClock, tmp_path: Path) -> None:
    """Virtual time does not wait for a disk: the stop's patience is over before the file has answered once."""
    flow: Workflow[str] = Workflow("ask", name="waits").add_exit_state("done")

    async def ask(store: KeyValueStore) -> str:
        pause: str = wait_for("go", then="done")
        return pause

    flow.register("ask", ask)
    plugins = (*PLUGINS, "sqlite")
    url = f"sqlite:///{tmp_path}/runs.db?synchronous=normal"
    for _ in range(3):
        async with Kernel(store=url, discover=False, plugins=plugins, clock=clock) as kernel:
            async with asyncio.timeout(60):  # of real time: it did not return
                async with Scheduler(kernel).every("e", flow, 3600):
                    await clock.sleep(7300)


async def test_events_keep_their_data_across_processes(make_kernel: MakeKernel, diary: Diary) -> None:
    """What waits in a queue is started by whoever is there, with the data that it was emitted with."""

    @dataclasses.dataclass
    class Order:
        number: int

    def flow() -> Workflow[str]:
        made: Workflow[str] = diary.flow(takes=5, types=[Order])
        return made

    async with make_kernel() as one:
        first = Scheduler(one).on("o", flow(), "order", overlap="queue")
        async with first:
            await first.emit("order", {"order": Order(1)})
            await first.emit("order", {"order": Order(2)})
            await one.clock.sleep(1)
    async with make_kernel() as two, Scheduler(two).on("o", flow(), "order", overlap="queue"):
        await two.clock.sleep(10)
    assert [data["order"].number for _, _, data in diary.runs] == [1, 2]


@dataclasses.dataclass
class Parcel:
    """Data of a schedule's run."""

    number: int


async def test_data_of_a_class_that_the_workflow_does_not_name(make_kernel: MakeKernel, diary: Diary) -> None:
    """It is refused when it is emitted, and no schedule is started; a batch may have what its workflow names."""
    named = diary.flow("named", types=[Parcel])
    async with make_kernel() as kernel:
        scheduler = Scheduler(kernel).on("n", named, "came").on("u", diary.flow("unnamed"), "came")
        scheduler.on("b", named, "many", instances=[{"one": 1}, {"two": Parcel(2)}])
        async with scheduler:
            with pytest.raises(ConfigurationError, match=r"types=\[Parcel\]"):
                await scheduler.emit("came", {"parcel": Parcel(1)})
            assert diary.runs == []
            (handle,) = await scheduler.emit("many", {"parcel": Parcel(1)})
            await handle.result()
    assert [data for _, _, data in diary.runs] == [
        {"parcel": Parcel(1), "one": 1},
        {"parcel": Parcel(1), "two": Parcel(2)},
    ]


async def test_the_records_of_schedules_disturb_nobody(
    make_kernel: MakeKernel, diary: Diary, store: MemoryBackend
) -> None:
    """They are parked for ever: the kernel's recover, check and ready leave them alone, and explain can tell."""
    async with make_kernel() as kernel:
        async with Scheduler(kernel).every("e", diary.flow(), 1):
            await kernel.clock.sleep(2.5)
        assert [record.run_id async for record in kernel.runs(workflow="cano.schedule")] == ["schedule:e"]
        assert await kernel.check() == []
        assert await store.ready(kernel.clock.time() + 1e6) == []
        assert await kernel.recover(diary.flow()) == []
        assert "waits" in str(await kernel.explain("schedule:e"))
        assert [run async for run in kernel.runs(status=RunStatus.FAILED)] == []


async def test_a_store_that_fails_for_a_while_is_asked_again(
    make_kernel: MakeKernel, diary: Diary, store: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scheduler goes on when the store does; what was due meanwhile is late, not lost."""
    from cano import StoreUnavailableError

    async def fail(*args: Any) -> Any:
        raise StoreUnavailableError("away")

    async with make_kernel() as kernel, Scheduler(kernel, grace=0.1).every("e", diary.flow(), 1) as scheduler:
        await kernel.clock.sleep(1.5)
        with monkeypatch.context() as patch:
            patch.setattr(store, "commit", fail)
            await kernel.clock.sleep(2)
        await kernel.clock.sleep(2)
        found = await reasons(scheduler, "e")
        info = await scheduler.status("e")
    assert found.count("misfire") >= 1
    assert info.fired + info.late + info.skipped == len(found) == 6


async def test_a_store_without_history_has_none_to_tell(
    make_kernel: MakeKernel, diary: Diary, store: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the store does not keep is refused, not told as nothing; all else works, and the counts are right."""

    async def nothing(run_id: str) -> list[Any]:
        return []

    monkeypatch.setattr(store, "capabilities", store.capabilities._replace(history=False))
    monkeypatch.setattr(store, "history", nothing)
    async with make_kernel() as kernel, Scheduler(kernel).every("e", diary.flow(), 1) as scheduler:
        await kernel.clock.sleep(2.5)
        with pytest.raises(ConfigurationError, match=r"the store <.*NeverClosed.*> keeps no history.*'e'"):
            await scheduler.history("e")
        assert (await scheduler.status("e")).fired == len(diary.ids) == 3


async def test_data_beyond_the_store_need_a_durable_one_to_matter(kernel: Kernel, diary: Diary) -> None:
    """In memory any object may be a run's data."""
    thing = object()
    async with Scheduler(kernel).manual("m", diary.flow(), data={"thing": thing}) as scheduler:
        await (await scheduler.trigger("m")).result()
    assert list(diary.runs[0][2]) == ["thing"]
