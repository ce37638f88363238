"""A run is the one that a caller means by its record, never by its id alone; on any store."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any, Literal

import pytest
from cano import (
    ConflictError,
    Kernel,
    KeyValueStore,
    Run,
    RunExistsError,
    RunRecord,
    RunStatus,
    StoreBackend,
    SubWorkflow,
    TaskConfig,
    TaskError,
    Workflow,
    hookimpl,
    wait_for,
)
from cano.testing import VirtualClock
from cano_scheduler import Scheduler

from tests.acceptance.golden.observers import Parked

START = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def store(any_store: str | StoreBackend) -> str | StoreBackend:
    """Also an encrypted one."""
    return any_store


async def pay(store: KeyValueStore) -> Literal["PAID"]:
    """Pay what the data says."""
    store["paid"] = store.get("amount", default=0)
    return "PAID"


def payment(name: str = "payment") -> Workflow[str]:
    """Return a workflow of that name."""
    flow: Workflow[str] = Workflow("PAY", name=name, default_config=TaskConfig.minimal())
    return flow.register("PAY", pay).add_exit_state("PAID")


def order() -> Workflow[str]:
    """Return a workflow whose only state is a child that pays."""
    flow: Workflow[str] = Workflow("CHILD", name="order", default_config=TaskConfig.minimal())
    child = SubWorkflow(payment(), inputs={"amount": "amount"}, outputs={"paid": "paid"}, then="DONE")
    return flow.register("CHILD", child).add_exit_state("DONE")


# what a caller says about a run that exists


async def test_the_same_id_returns_the_result(store: str | StoreBackend) -> None:
    """By default, `run` and `start` return the run that has the id, whatever data they are given."""
    async with Kernel(store=store) as kernel:
        await kernel.run(payment(), {"amount": 5}, run_id="run")
        for data in ({"amount": 5}, {"amount": 6}, None):
            assert (await kernel.run(payment(), data, run_id="run")).data == {"amount": 5, "paid": 5}
            handle = await kernel.start(payment(), data, run_id="run", on_existing="return")
            assert (await handle.result()).data["paid"] == 5


async def test_same_data(store: str | StoreBackend) -> None:
    """With "same-data", only a run that began with equal data is returned; without data, any."""
    given: dict[str, Any] = {"amount": 5, "tags": {"a", "b", "c"}, "nested": {"x": [1, 2.0], "y": None}}
    equal = {"nested": {"y": None, "x": [1, 2.0]}, "tags": {"c", "b", "a"}, "amount": 5}
    odd = {"amount": 5, "not equal to itself": math.nan}
    async with Kernel(store=store) as kernel:
        await kernel.run(payment(), given, run_id="run", on_existing="same-data")
        await kernel.run(payment(), odd, run_id="odd", on_existing="same-data")
    async with Kernel(store=store) as kernel:
        for data in (given, equal, None):
            result = await kernel.run(payment(), data, run_id="run", on_existing="same-data")
            assert result.data["paid"] == 5
        await kernel.run(payment(), odd, run_id="odd", on_existing="same-data")
        for other in ({"amount": 6}, {}, {**given, "amount": 5.5}, {**given, "more": 1}):
            with pytest.raises(RunExistsError, match="'run' is in use: it began with other data") as refused:
                await kernel.start(payment(), other, run_id="run", on_existing="same-data")
            assert (refused.value.run_id, refused.value.workflow) == ("run", "payment")


async def test_reject(store: str | StoreBackend) -> None:
    """With "reject", no run is returned, whatever its data; a new one is started."""
    async with Kernel(store=store) as kernel:
        await kernel.run(payment(), {"amount": 5}, run_id="run", on_existing="reject")
        for data in ({"amount": 5}, None):
            with pytest.raises(RunExistsError, match="a run with it exists"):
                await kernel.run(payment(), data, run_id="run", on_existing="reject")


async def test_another_workflows_run_is_always_refused(store: str | StoreBackend) -> None:
    """Whatever is said about it."""
    async with Kernel(store=store) as kernel:
        await kernel.run(payment(), {"amount": 5}, run_id="run")
        for how in ("return", "same-data", "reject"):
            with pytest.raises(RunExistsError, match="belongs to a run of workflow 'payment', not 'gift'"):
                await kernel.run(payment("gift"), {"amount": 5}, run_id="run", on_existing=how)


async def test_a_run_that_is_executing_is_compared_too(store: str | StoreBackend) -> None:
    """A run that this kernel executes at the moment is no exception."""

    async def again(store: KeyValueStore) -> Literal["PAID"]:
        for how, data in (("reject", None), ("same-data", {"amount": 6})):
            with pytest.raises(RunExistsError):
                await kernel.start(flow, data, run_id="run", on_existing=how)
        await kernel.start(flow, {"amount": 5}, run_id="run", on_existing="same-data")
        return "PAID"

    flow: Workflow[str] = Workflow("PAY", name="payment").register("PAY", again).add_exit_state("PAID")
    async with Kernel(store=store) as kernel:
        assert (await kernel.run(flow, {"amount": 5}, run_id="run")).state == "PAID"


# children


@pytest.mark.parametrize("ended", [True, False])
async def test_a_foreign_run_is_not_taken_for_a_child(store: str | StoreBackend, ended: bool) -> None:
    """A caller who can choose an id cannot prepare the result of a child: the parent fails, and says why."""
    async with Kernel(store=store) as kernel:
        if ended:
            await kernel.run(payment(), {"amount": 0}, run_id="order:1/payment")
        else:
            flow = payment()
            assert kernel.backend is not None
            plan = kernel.bind(flow)
            await kernel.backend.create(
                RunRecord("order:1/payment", "payment", "1", plan.fingerprint, "PAY", created=1.0, updated=1.0)
            )
        with pytest.raises(TaskError, match="is in use: its run is not a child of run order") as failed:
            await kernel.run(order(), {"amount": 9999}, run_id="order")
        assert isinstance(failed.value.__cause__, RunExistsError)
        (parent,) = await kernel.runs(workflow="order")
        assert parent.status is RunStatus.FAILED


async def test_a_child_of_another_parent_is_not_taken(store: str | StoreBackend) -> None:
    """Not even a child, if another run is its parent."""
    async with Kernel(store=store) as kernel:
        await kernel.run(order(), {"amount": 1}, run_id="order")
        assert kernel.backend is not None
        child = await kernel.backend.load("order:1/payment")
        assert child is not None
        await kernel.backend.create(child._replace(run_id="other:1/payment"))
        with pytest.raises(TaskError, match="not a child of run other"):
            await kernel.run(order(), {"amount": 9999}, run_id="other")


async def test_a_child_of_a_deleted_run_is_not_taken(store: str | StoreBackend) -> None:
    """A new run with the id of a deleted one does not take over that one's child, which may have other data."""
    async with Kernel(store=store) as kernel:
        assert (await kernel.run(order(), {"amount": 5}, run_id="run")).data["paid"] == 5
        (child,) = [run.run_id for run in await kernel.runs() if run.parent == "run"]
        await kernel.delete("run")
    async with Kernel(store=store) as kernel:
        with pytest.raises(TaskError) as failed:
            await kernel.run(order(), {"amount": 7}, run_id="run")
        refusal = failed.value.__cause__
        assert isinstance(refusal, RunExistsError)
        assert str(refusal) == (
            f"the run id '{child}' is in use: its run is a child of an earlier run run, which was deleted; delete it, "
            f"too: kernel.delete('{child}')"
        )
        await kernel.delete("run")
        await kernel.delete(child)
        assert (await kernel.run(order(), {"amount": 7}, run_id="run")).data["paid"] == 7


async def test_in_memory_a_child_takes_no_place_of_another_run() -> None:
    """Without a store, a run that is executing under a child's id is left alone."""

    async def inner(store: KeyValueStore) -> Literal["DONE"]:
        with pytest.raises(ConflictError, match="order:1/payment is already running"):
            await kernel.run(order(), {"amount": 1}, run_id="order")
        return "DONE"

    outer: Workflow[str] = (
        Workflow("IN", name="outer", default_config=TaskConfig.minimal()).register("IN", inner).add_exit_state("DONE")
    )
    async with Kernel(plugins=[], block=["durability", "memory"]) as kernel:
        assert (await kernel.run(outer, run_id="order:1/payment")).state == "DONE"


# schedules


class Ends:
    """Tells the ends of runs, by id."""

    def __init__(self) -> None:
        self.events: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    @hookimpl
    def cano_run_finished(self, run: Run) -> None:
        """Set the event of the run."""
        self.events[run.run_id].set()


class World:
    """A store, and a clock that stands still until an hour comes."""

    def __init__(self, store: str | StoreBackend) -> None:
        self.store = store
        self.clock = VirtualClock(START.timestamp() - 1, auto=False)
        self.ends = Ends()
        self.parked = Parked()

    def kernel(self) -> Kernel:
        """Return a kernel on the store."""
        return Kernel(store=self.store, clock=self.clock, plugins=[self.ends, self.parked], grace=0, lease=1e7)

    async def hour(self) -> int:
        """Let the next hour come, and return it."""
        passed = self.clock.time() - START.timestamp()
        await self.clock.advance(3600 - passed % 3600)
        return int((self.clock.time() - START.timestamp()) // 3600)


def scheduler(kernel: Kernel, flow: Workflow[Any], id: str = "nightly", amount: int = 7) -> Scheduler:
    """Return a scheduler with an hourly schedule."""
    made = Scheduler(kernel)
    made.every(id, flow, 3600, first=START, data={"amount": amount}, overlap="allow")
    return made


def tick(hour: int, key: str = "nightly") -> str:
    """Return the id of the run of an hour."""
    return f"{key}@2026-01-02T{hour:02}:00:00Z"


async def test_two_applications_with_one_schedule_id(store: str | StoreBackend) -> None:
    """Each has its own state and its own ticks, though both call their schedule nightly."""
    world, done = World(store), dict[str, set[str]]()
    keys = {"report": "nightly", "invoice": "nightly@invoice"}
    for _ in range(2):
        for name, key in keys.items():
            async with world.kernel() as kernel, scheduler(kernel, payment(name)):
                run_id = tick(await world.hour(), key)
                await world.ends.events[run_id].wait()
                done.setdefault(name, set()).add(run_id)
    async with world.kernel() as kernel:
        for name in keys:
            assert done[name] <= {run.run_id for run in await kernel.runs(workflow=name)}
            made = scheduler(kernel, payment(name))
            history = {each.run_id for each in await made.history("nightly") if each.run_id}
            assert history == {run.run_id for run in await kernel.runs(workflow=name)}
            assert {run_id.rpartition("@")[0] for run_id in history} == {keys[name]}
        states = {run.run_id: run.fingerprint for run in await kernel.runs(workflow="cano.schedule")}
        assert states == {"schedule:nightly": "report", "schedule:nightly@invoice": "invoice"}


async def test_an_ordinary_run_with_the_id_of_a_schedule_stops_nobody(store: str | StoreBackend) -> None:
    """The schedule keeps its state elsewhere; if that is taken, too, it alone is out of order."""
    world = World(store)
    async with world.kernel() as kernel:
        for id in ("schedule:nightly", "schedule:daily", "schedule:daily@report"):
            await kernel.run(payment(), run_id=id)
        made = scheduler(kernel, payment("report"))
        made.every("hourly", payment("invoice"), 3600, first=START)
        made.every("daily", payment("report"), 3600, first=START)
        async with made:
            hour = await world.hour()
            for key in ("nightly@report", "hourly"):
                await world.ends.events[tick(hour, key)].wait()
        assert {run.run_id for run in await kernel.runs(workflow="report")} == {tick(hour, "nightly@report")}


@pytest.mark.parametrize("same", ["workflow", "nothing"])
async def test_a_foreign_run_is_not_taken_for_a_tick(store: str | StoreBackend, same: str) -> None:
    """A caller who chooses an id cannot prepare the result of a tick: it is recorded as failed; the next one runs."""
    world = World(store)
    async with world.kernel() as kernel:
        await kernel.run(payment("report" if same == "workflow" else "gift"), {"amount": 0}, run_id=tick(0))
        made = scheduler(kernel, payment("report"))
        async with made:
            assert await world.hour() == 0
            await world.ends.events[tick(await world.hour())].wait()
        info = await made.status("nightly")
        assert (info.failures, info.run_count) == (1, 2)
        assert info.last_error is not None
        assert f"the run id {tick(0)!r} is in use" in info.last_error
        assert (await kernel.run(payment("report"), run_id=tick(1))).data["paid"] == 7


async def test_a_tick_goes_on_after_its_schedule_has_other_data(store: str | StoreBackend) -> None:
    """A run of the schedule is known by its origin: the program may have changed the schedule's data meanwhile."""

    async def wait(store: KeyValueStore) -> Any:
        return wait_for("go", then="DO")

    def waiting() -> Workflow[str]:
        flow: Workflow[str] = Workflow("WAIT", name="report").register("WAIT", wait).register("DO", pay)
        return flow.add_exit_state("PAID")

    world = World(store)
    async with world.kernel() as kernel, scheduler(kernel, waiting()):
        assert await world.hour() == 0
        await world.parked.event.wait()
    async with world.kernel() as kernel:
        flow = waiting()
        kernel.bind(flow)
        await kernel.signal(tick(0), "go")
        async with scheduler(kernel, flow, amount=8):
            await world.clock.advance(1)  # it looks for runs that other processes have left
            await world.ends.events[tick(0)].wait()
        assert (await kernel.run(flow, run_id=tick(0))).data["paid"] == 7
