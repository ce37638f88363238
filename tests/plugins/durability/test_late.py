"""Late runs: found while they execute, wait or are executed by no process; told once, by one process."""

from __future__ import annotations

import asyncio
import logging
from enum import Enum
from typing import TYPE_CHECKING, Any

import pytest
from cano import (
    ConflictError,
    Expect,
    Kernel,
    LateRun,
    Run,
    RunFilter,
    RunNotFoundError,
    RunStatus,
    SerializationError,
    Standstill,
    StoreUnavailableError,
    SubWorkflow,
    Workflow,
    hookimpl,
    wait_for,
)

from tests.plugins.durability.conftest import LEASE, POLL

if TYPE_CHECKING:
    from tests.plugins.durability.conftest import World


class Order(Enum):
    """The states of the flows here."""

    PACK = "pack"
    ASK = "ask"
    PAY = "pay"
    DONE = "done"


class Told:
    """A plugin that notes what it is told."""

    def __init__(self) -> None:
        self.late: list[LateRun] = []
        self.begun: list[str] = []

    @hookimpl
    def cano_run_started(self, run: Run) -> None:
        """Note it."""
        self.begun.append(run.run_id)

    @hookimpl
    def cano_run_late(self, late: LateRun) -> None:
        """Note it."""
        self.late.append(late)

    @property
    def which(self) -> list[str]:
        """The runs, or the visited states."""
        return [late.state if late.step else "run" for late in self.late]


class Flow:
    """Packs until its gate opens, asks, and pays."""

    def __init__(self, **expect: Any) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.flow = Workflow(Order.PACK, name="order", expect=Expect(**expect) if expect else None)
        self.flow.register(Order.PACK, self.pack).register(Order.ASK, self.ask).register(Order.PAY, self.pay)
        self.flow.add_exit_state(Order.DONE)

    async def pack(self, store: Any) -> Order:
        """Wait for the gate."""
        await self.gate.wait()
        return Order.ASK

    async def ask(self, store: Any) -> Order:
        """Wait for an answer, for two minutes."""
        return wait_for("paid", then=Order.PAY, timeout=120, on_timeout=Order.DONE)

    async def pay(self, store: Any) -> Order:
        """Wait for the gate again."""
        await self.gate.wait()
        return Order.DONE


@pytest.fixture
def told() -> Told:
    """What the first kernel is told."""
    return Told()


@pytest.fixture
def others() -> Told:
    """What the others are."""
    return Told()


async def test_a_run_that_executes_is_told_once(world: World, told: Told, caplog: pytest.LogCaptureFixture) -> None:
    """The run and the visit are each told when they become late, in the log and by the hook, and never again."""
    kernel = await world.kernel(plugins=[told])
    flow = Flow(within="1m", step_within={Order.PACK: 20})
    flow.gate.clear()
    began = world.clock.time()
    handle = await kernel.start(flow.flow, {}, run_id="o-1")
    await world.clock.advance(19)
    assert told.late == []
    await world.clock.advance(2)
    assert told.late == [LateRun("o-1", "order", "PACK", 0, True, 20.0, began, began + 20)]
    await world.clock.advance(40)
    assert told.late[1:] == [LateRun("o-1", "order", "PACK", 0, False, 60.0, began, began + 60)]
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "run o-1 of workflow order is late: its visit of state PACK takes longer than the expected 20 s",
        "run o-1 of workflow order is late: the run takes longer than the expected 60 s",
    ]
    assert (await kernel.get("o-1")).late == tuple(reversed(told.late))
    explained = await kernel.explain("o-1")
    assert explained.reason is Standstill.RUNNING_HERE
    assert explained.detail.endswith("expected 60 s; late: its visit of state PACK takes longer than the expected 20 s")

    flow.gate.set()
    await world.clock.advance(40)
    await kernel.signal("o-1", "paid")
    await world.settle()
    assert (await handle.result()).state is Order.DONE
    assert len(told.late) == 2
    view = await kernel.get("o-1")
    assert [late.step for late in view.late] == [False]
    assert "late" not in (await kernel.explain("o-1")).detail


async def test_each_visit_is_told(world: World, told: Told) -> None:
    """A state that is visited again can be late again; one that is left in time is not."""
    kernel = await world.kernel(plugins=[told])
    visits = 0

    async def again(store: Any) -> Order:
        nonlocal visits
        visits += 1
        await kernel.clock.sleep(5 if visits == 2 else 15)
        return Order.DONE if visits == 3 else Order.PACK

    flow = Workflow(Order.PACK, expect=Expect(step_within={"PACK": 10})).register(Order.PACK, again)
    flow.add_exit_state(Order.DONE)
    handle = await kernel.start(flow, {}, run_id="o-1")
    await world.clock.advance(100)
    assert (await handle.result()).steps == 3
    assert [late.seq for late in told.late] == [0, 2]


async def test_a_run_in_memory_is_told(told: Told) -> None:
    """A run that no store keeps is told, too."""
    from cano.testing import VirtualClock

    async with Kernel(plugins=[told], clock=VirtualClock()) as kernel:

        async def slow(store: Any) -> Order:
            await kernel.clock.sleep(20)
            return Order.DONE

        flow = Workflow(Order.PACK, expect=Expect(within=10)).register(Order.PACK, slow).add_exit_state(Order.DONE)
        await kernel.run(flow)
    assert told.which == ["run"]


async def test_a_parked_run_is_told(world: World, told: Told) -> None:
    """A parked run is told in time, its wait stays as it is, and its signal wakes it as ever."""
    kernel = await world.kernel(plugins=[told])
    flow = Flow(within=60, step_within={Order.PAY: "30s"})
    began = world.clock.time()
    handle = await kernel.start(flow.flow, {}, run_id="o-1")
    await world.settle()
    await world.clock.advance(31)
    assert told.late == [LateRun("o-1", "order", "PAY", 2, True, 30.0, began, began + 30, RunStatus.PARKED)]
    await world.clock.advance(30)
    assert told.which == ["PAY", "run"]
    view = await kernel.get("o-1")
    assert view.status is RunStatus.PARKED
    assert view.wait is not None
    assert view.wait.until == began + 120
    explained = await kernel.explain("o-1")
    assert explained.reason is Standstill.WAITING_FOR_SIGNAL
    assert "'paid', for 59.0 s more, then PAY, otherwise DONE; late: the run takes" in explained.detail
    await world.clock.advance(40)
    await kernel.signal("o-1", "paid")
    await world.settle()
    assert (await handle.result()).state is Order.DONE
    assert len(told.late) == 2


async def test_a_late_wait_still_times_out(world: World, told: Told) -> None:
    """A wait whose run became late ends at its own time, and leads to its `on_timeout`."""
    kernel = await world.kernel(plugins=[told])
    flow = Flow(within=60)
    handle = await kernel.start(flow.flow, {}, run_id="o-1")
    await world.clock.advance(115)
    assert told.which == ["run"]
    assert (await kernel.get("o-1")).status is RunStatus.PARKED
    await world.clock.advance(6)
    result = await handle.result()
    assert (result.state, result.steps) == (Order.DONE, 3)


async def test_another_process_tells_of_a_parked_run(world: World, told: Told, others: Told) -> None:
    """If the process that parked a run is gone, one of those that recover its workflow tells it, and only that."""
    kernel = await world.kernel(plugins=[told])
    await kernel.start(Flow(within=60).flow, {}, run_id="o-1")
    await world.settle()
    await world.crash(kernel)
    for _ in range(3):
        other = await world.kernel(plugins=[others])
        await other.recover(Flow(within=60).flow)
    await world.clock.advance(59)
    assert others.late == []
    await world.clock.advance(3 + POLL)
    assert others.which == ["run"]
    await world.clock.advance(40)
    assert (told.which, others.which) == ([], ["run"])
    assert (await world.look("o-1")).holder is None


@pytest.mark.parametrize("first", [True, False], ids=["told", "killed before"])
async def test_a_killed_driver(world: World, told: Told, others: Told, first: bool) -> None:
    """What a killed process told is not told again; what it did not, the process that takes over tells."""
    kernel = await world.kernel(plugins=[told])
    flow = Flow(within=100, step_within={Order.PACK: 50})
    flow.gate.clear()
    began = world.clock.time()
    await kernel.start(flow.flow, {}, run_id="o-1")
    await world.clock.advance(60 if first else 40)
    assert told.which == ["PACK"] * first
    await world.crash(kernel)
    await world.lapse()
    other, same = await world.kernel(plugins=[others]), Flow(within=100, step_within={Order.PACK: 50})
    same.gate.clear()
    await other.recover(same.flow)
    await world.settle()
    assert others.which == ["PACK"] * (not first)
    assert all(late.since == began for late in others.late)  # the visit did not begin anew
    await world.clock.advance(100)
    assert others.which[-1] == "run"
    assert len(told.late + others.late) == 2


async def test_a_run_that_waits_for_a_worker(world: World, told: Told, others: Told) -> None:
    """A run that no kernel has a place for is told by one of them, and still executed when there is a place."""
    kernel = await world.kernel(plugins=[told])
    flow = Flow(within=90, step_within={Order.PACK: 45})
    flow.gate.clear()
    for number in (1, 2):
        await kernel.start(
            Flow(within=90, step_within={Order.PACK: 45}).flow if number > 2 else flow.flow, {}, run_id=f"o-{number}"
        )
    await world.settle()
    await world.crash(kernel)
    await world.lapse()
    workers = [await world.kernel(plugins=[others]) for _ in range(2)]
    busy = Flow(within=90, step_within={Order.PACK: 45})
    busy.gate.clear()
    assert len(await workers[0].recover(busy.flow, concurrency=1)) == 1
    await world.clock.advance(200)
    assert sorted((late.run_id, late.step) for late in others.late) == [
        ("o-1", False), ("o-1", True), ("o-2", False), ("o-2", True),
    ]  # fmt: skip
    waiting = {late.run_id for late in others.late if late.status is RunStatus.INTERRUPTED}
    assert len(waiting) == 1
    busy.gate.set()
    await world.settle()
    await world.clock.advance(LEASE)
    for run_id in ("o-1", "o-2"):
        assert (await world.look(run_id)).status is RunStatus.PARKED
    assert len(others.late) == 4


@pytest.mark.parametrize(
    "error", [RunNotFoundError("gone"), ConflictError("claimed"), SerializationError("corrupt")], ids=repr
)
async def test_a_run_that_cannot_be_reported_hides_no_other(
    world: World, told: Told, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    """If one run was deleted, claimed or corrupted meanwhile, the other late runs are told; the store did not fail."""
    first, workflow = await world.kernel(), Flow(within=90).flow
    for number in (1, 2, 3):
        await first.submit(workflow, {}, run_id=f"o-{number}")
    worker = await world.kernel(plugins=[told])
    busy = Flow(within=90)
    busy.gate.clear()
    assert len(await worker.recover(busy.flow, concurrency=1)) == 1
    store, executed = world.store(worker).backend, next(iter(worker.active))
    broken = max({"o-1", "o-2", "o-3"} - {executed})
    load = store.load

    async def failing(run_id: str) -> Any:
        if run_id == broken:
            raise error
        return await load(run_id)

    store.load = failing  # type: ignore[method-assign]
    try:
        await world.clock.advance(100)
        assert {late.run_id for late in told.late} == {"o-1", "o-2", "o-3"} - {broken}
        assert {late.status for late in told.late if late.run_id != executed} == {RunStatus.QUEUED}
        assert "the store failed" not in caplog.text
        assert ("whether run" in caplog.text) == isinstance(error, SerializationError)
    finally:
        del store.load


async def test_nothing_is_read_of_runs_that_are_not_late(world: World, told: Told) -> None:
    """A look for runs without a process lists those that became late since the last one, and no others."""
    kernel = await world.kernel(plugins=[told])
    asked: list[RunFilter] = []
    backend = world.store(kernel).backend
    listed = backend.runs

    async def runs(filter: RunFilter) -> Any:
        asked.append(filter)
        return await listed(filter)

    backend.runs = runs  # type: ignore[method-assign]
    try:
        await kernel.recover(Flow(within=600).flow)
        asked.clear()
        await world.clock.advance(LEASE * 2)
        looks = [filter for filter in asked if filter.created_before is not None]
        assert looks
        now = world.clock.time()
        assert all(filter.workflow == "order" and filter.status is RunStatus.RUNNING for filter in looks)
        assert all(now - 600 - LEASE * 2 <= (filter.created_before or 0) <= now - 600 for filter in looks)
        assert all((filter.created_after or 0) >= now - 600 - LEASE * 4 for filter in looks[1:])
    finally:
        del backend.runs


async def test_a_store_that_fails_is_asked_again(world: World, told: Told) -> None:
    """If the store is away when a run becomes late, the run is told once it is back."""
    kernel = await world.kernel(plugins=[told])
    flow = Flow(within=10)
    flow.gate.clear()
    await kernel.start(flow.flow, {}, run_id="o-1")
    await world.settle()
    world.faults(kernel).at_call("commit").fail(StoreUnavailableError("away"))
    await world.clock.advance(10.5)
    assert told.late == []
    await world.clock.advance(2 * POLL)
    assert told.which == ["run"]


async def test_a_fork_is_a_run_of_its_own(world: World, told: Told) -> None:
    """A fork of a run that was late can be late itself, by the time of its own beginning."""
    kernel = await world.kernel(plugins=[told])
    flow = Flow(within=60)
    await kernel.start(flow.flow, {}, run_id="o-1")
    await world.clock.advance(100)
    assert told.which == ["run"]
    await kernel.recover(flow.flow)
    await kernel.fork("o-1", 2, "o-2")
    assert (await kernel.get("o-2")).late == ()
    await world.clock.advance(59)
    assert len(told.late) == 1
    await world.clock.advance(2 + POLL)
    assert [late.run_id for late in told.late] == ["o-1", "o-2"]


async def test_a_child_is_late_by_itself(world: World, told: Told) -> None:
    """A parent and its parked child are told each by its own expectation."""
    kernel = await world.kernel(plugins=[told])
    child = Flow(within=30)
    parent = Workflow(Order.PAY, name="parent", expect=Expect(within=50))
    parent.register(Order.PAY, SubWorkflow(child.flow, then=Order.DONE)).add_exit_state(Order.DONE)
    await kernel.start(parent, {}, run_id="p")
    await world.clock.advance(100)
    assert [late.workflow for late in told.late] == ["order", "parent"]


async def test_without_an_expectation_nothing_is_watched(world: World, told: Told) -> None:
    """A workflow that expects nothing has no observer more, and its runs store nothing more."""
    kernel = await world.kernel()
    flow = Flow()
    await kernel.start(flow.flow, {}, run_id="o-1")
    await world.settle()
    plan = kernel.bind(flow.flow)
    assert (plan.run_started, plan.step_finished, plan.transition_committed, plan.run_late) == ((), (), (), ())
    assert (await world.look("o-1")).own.keys() == {"wait"}


async def test_what_a_broken_observer_raises_is_counted(world: World, told: Told) -> None:
    """An observer that raises keeps no other from being called, and the run goes on."""

    class Broken:
        @hookimpl
        def cano_run_late(self, late: LateRun) -> None:
            raise LookupError("broken")

    kernel = await world.kernel(plugins=[Broken(), told])
    flow = Flow(within=10)
    await kernel.start(flow.flow, {}, run_id="o-1")
    await world.clock.advance(11)
    assert told.which == ["run"]
    assert sum(kernel.observer_errors.values()) == 1


@pytest.mark.parametrize("delay", [None, 500], ids=["queued", "delayed"])
async def test_a_run_that_waits_for_a_worker_stays_queued(
    world: World, told: Told, others: Told, delay: float | None
) -> None:
    """A run that is reported before it began is as it was; it is interrupted only if it is so after it has begun."""
    client = await world.kernel()
    flow = Flow(within=90)
    busy, worker = Flow(within=90), await world.kernel(plugins=[told])
    busy.gate.clear()
    if delay is None:
        await client.submit(flow.flow, {}, run_id="o-0")
    await worker.recover(busy.flow, concurrency=1)
    await client.submit(flow.flow, {}, run_id="o-1", delay=delay)
    for _ in range(2):
        await world.clock.advance(100)
        if delay is not None:
            await worker.signal("o-1", "early")  # which wakes it
            await world.settle()
        assert [late.status for late in told.late if late.run_id == "o-1"] == [
            RunStatus.QUEUED if delay is None else RunStatus.PARKED
        ]
        assert (await client.get("o-1")).status is (RunStatus.QUEUED if delay is None else RunStatus.PARKED)
        assert (await client.explain("o-1")).reason is (Standstill.QUEUED if delay is None else Standstill.DELAYED)
        assert len(await client.runs(status="queued")) == (delay is None)
        assert await client.runs(status="interrupted").count() == 0
    await world.close(worker)  # with the other run, if there is one, which has begun
    if delay is not None:
        await world.clock.advance(delay)
    other, again = await world.kernel(plugins=[others]), Flow(within=90)
    again.gate.clear()
    assert len(await other.recover(again.flow)) == 2 - (delay is not None)
    await world.close(other)
    assert (await client.get("o-1")).status is RunStatus.INTERRUPTED
    assert others.late == []


async def test_a_run_that_is_reported_keeps_its_place_in_its_queue(world: World, told: Told) -> None:
    """A small priority stays small: the run begins after a larger one that was submitted later, reported or not."""
    client, worker = await world.kernel(), await world.kernel(plugins=[told])
    flow = Flow(within=90)
    flow.gate.clear()
    await client.submit(flow.flow, {}, run_id="first")
    await worker.recover(flow.flow, concurrency=1)
    for run_id, priority in (("small", -1), ("middle", 0)):
        await client.submit(flow.flow, {}, run_id=run_id, priority=priority)
    await world.clock.advance(100)
    assert sorted(late.run_id for late in told.late) == ["first", "middle", "small"]
    await client.submit(flow.flow, {}, run_id="large", priority=1)
    assert (await client.explain("small")).detail.startswith("in queue default, priority -1; 2 runs")
    flow.gate.set()
    while len(told.begun) < 4:
        await world.clock.advance(POLL)
    assert told.begun == ["first", "large", "middle", "small"]


async def test_a_worker_that_stops_gives_queued_runs_back(world: World) -> None:
    """What a worker has claimed, and does not begin because it is closed, is queued as before."""
    client, worker, flow = await world.kernel(), await world.kernel(), Flow().flow
    await client.submit(flow, {}, run_id="o-1")
    store = world.store(worker).backend
    load, claim = store.load, store.claim_ready  # type: ignore[attr-defined]

    async def claimed(*given: Any) -> Any:
        found = await claim(*given)
        worker.closed = True
        return found

    store.claim_ready = claimed  # type: ignore[attr-defined]
    try:
        assert await worker.recover(flow) == []
    finally:
        worker.closed = False
        del store.claim_ready  # type: ignore[attr-defined]
    found = await load("o-1")
    assert found is not None
    assert found.token == 1
    assert (await client.get("o-1")).status is RunStatus.QUEUED
