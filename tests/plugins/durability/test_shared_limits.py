"""Limits and rates of all processes of a store: kernels on one store are processes here."""

from __future__ import annotations

import asyncio
import enum
import functools
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from cano import (
    ConcurrentWorkflow,
    ConfigurationError,
    Kernel,
    Limit,
    Rate,
    RunCancelledError,
    SlotRequest,
    SlotStore,
    Standstill,
    SubWorkflow,
    TaskError,
    Workflow,
    current_step,
    sleep_until,
    task,
)
from cano_memory import MemoryBackend

from tests.waiting import until

if TYPE_CHECKING:
    from tests.plugins.durability.conftest import World


class Bodies:
    """The bodies that are being executed, by run id, each until the test lets it end."""

    def __init__(self) -> None:
        self.inside: dict[str, asyncio.Event] = {}
        self.order: list[str] = []
        self.done: list[str] = []

    async def body(self, store: Any) -> str:
        """Wait inside until the test says so."""
        run_id = current_step().run_id
        self.order.append(run_id)
        self.inside[run_id] = asyncio.Event()
        try:
            await self.inside[run_id].wait()
        finally:
            del self.inside[run_id]
        self.done.append(run_id)
        return "end"

    def let_go(self, *run_ids: str) -> None:
        """Let these bodies end."""
        for run_id in run_ids:
            self.inside[run_id].set()

    def flow(self, limit: Any = None, state: Any = None, name: str = "flow") -> Workflow[str]:
        """A workflow whose one body waits."""
        flow: Workflow[str] = Workflow("work", name=name, limit=limit)
        return flow.register("work", task(self.body), limit=state).add_exit_state("end")


async def slots_of(world: World) -> list[Any]:
    """The slots in the store, as a process without runs sees them."""
    kernel = await world.kernel()
    store = kernel.backend
    assert isinstance(store, SlotStore)
    return list(await store.slots())


@pytest.mark.parametrize("where", ["limit", "state"])
async def test_a_limit_holds_over_processes(world: World, where: str) -> None:
    """Two kernels have two slots together; a slot that is given back is used, in either, and none is left."""
    bodies = Bodies()
    kernels = [await world.kernel(), await world.kernel()]
    handles = []
    for number in range(6):
        limit = Limit(2, scope="store")  # an object of its own, as each process has one
        flow = bodies.flow(limit) if where == "limit" else bodies.flow(state=limit)
        handles.append(await kernels[number % 2].start(flow, {}, run_id=f"run {number}"))
        await world.settle()
    await until(lambda: len(bodies.order) == 2)
    await world.clock.advance(3)
    assert sorted(bodies.inside) == ["run 0", "run 1"]
    assert {slot.name for slot in await slots_of(world)} == {"flow" if where == "limit" else "flow/work"}
    while len(bodies.done) < 6:
        count = len(bodies.order)
        assert len(bodies.inside) <= 2
        bodies.let_go(next(iter(bodies.inside)))
        await world.clock.advance(2)
        assert len(bodies.order) == min(count + 1, 6), "a free slot is used"
    assert [(await handle.result()).state for handle in handles] == ["end"] * 6
    await world.settle()
    assert await slots_of(world) == []


async def test_first_come_first_served(world: World) -> None:
    """In one kernel and between kernels, slots go to the runs in the order of arrival."""
    bodies = Bodies()
    kernels = [await world.kernel(), await world.kernel()]
    handles = []
    for number, kernel in enumerate((0, 0, 1, 0, 1)):
        flow = bodies.flow(Limit(1, scope="store"))
        handles.append(await kernels[kernel].start(flow, {}, run_id=f"{number}"))
        await world.clock.advance(0.001)
    for number in range(5):
        await until(lambda count=number + 1: len(bodies.order) == count)  # type: ignore[misc]
        bodies.let_go(*bodies.inside)
        await world.clock.advance(2)
    assert bodies.order == ["0", "1", "2", "3", "4"]
    for handle in handles:
        await handle.result()


async def test_the_commit_of_a_step_frees_its_slot(world: World) -> None:
    """A run that has moved on, or is parked, has no slot of the state before; the run's own slot stays."""
    bodies = Bodies()
    kernel = await world.kernel()
    flow: Workflow[str] = Workflow("first", name="two", limit=Limit(5, scope="store", name="runs"))

    async def first(store: Any) -> str:
        return "work"

    flow.register("first", task(first), limit=Limit(1, scope="store", name="step"))
    flow.register("work", task(bodies.body)).add_exit_state("end")
    handles = [await kernel.start(flow, {}, run_id=f"run {number}") for number in range(3)]
    await until(lambda: len(bodies.inside) == 3)
    await world.settle()
    assert [(slot.name, slot.run_id) for slot in await slots_of(world)] == [
        ("runs", "run 0"), ("runs", "run 1"), ("runs", "run 2"),
    ]  # fmt: skip
    bodies.let_go(*bodies.inside)
    for handle in handles:
        await handle.result()


async def test_a_parked_run_holds_no_slot(world: World) -> None:
    """A run that waits for a time gives its slot back, and takes one again when it continues."""
    kernel = await world.kernel()
    flow: Workflow[str] = Workflow("sleep", name="sleeps", limit=Limit(1, scope="store"))

    async def sleep(store: Any) -> Any:
        return sleep_until(world.clock.time() + 100, then="wake")

    async def wake(store: Any) -> str:
        return "end"

    flow.register("sleep", task(sleep)).register("wake", task(wake)).add_exit_state("end")
    handles = [await kernel.start(flow, {}, run_id=f"run {number}") for number in range(2)]
    await world.clock.advance(5)
    assert await slots_of(world) == []
    await world.clock.advance(110)
    assert [(await handle.result()).state for handle in handles] == ["end", "end"]


async def test_the_dead_give_their_slots_back(world: World) -> None:
    """After a crash, the slot is free when the lease has expired; the kernel that takes the run over needs one."""
    bodies = Bodies()
    dying, living = await world.kernel(), await world.kernel()
    flow = bodies.flow(Limit(1, scope="store"))
    await dying.start(flow, {}, run_id="dead")
    await until(lambda: "dead" in bodies.inside)
    await world.crash(dying)
    handle = await living.start(bodies.flow(Limit(1, scope="store")), {}, run_id="next")
    await world.clock.advance(5)
    assert list(bodies.inside) == []
    await world.lapse()
    await world.clock.advance(2)
    assert list(bodies.inside) == ["next"]
    await living.recover(bodies.flow(Limit(1, scope="store")))
    await world.clock.advance(2)
    assert list(bodies.inside) == ["next"]
    bodies.let_go("next")
    await until(lambda: "dead" in bodies.inside)
    bodies.let_go("dead")
    await handle.result()
    await world.settle()
    assert await slots_of(world) == []


async def test_explain_names_the_limit_and_its_holders(world: World) -> None:
    """`explain` says for which limit a run waits, and which runs hold its slots since when; elsewhere, too."""
    bodies = Bodies()
    here, there = await world.kernel(), await world.kernel()
    flow = bodies.flow(Limit(1, scope="store", key="tenant", name="pool"))
    first = await here.start(flow, {"tenant": "acme"}, run_id="first")
    await until(lambda: "first" in bodies.inside)
    await world.clock.advance(1)
    second = await here.start(flow, {"tenant": "acme"}, run_id="second")
    await world.clock.advance(2)
    third = await here.start(flow, {"tenant": "acme"}, run_id="third")
    await world.clock.advance(2)
    said = {name: await here.explain(name) for name in ("second", "third")}
    assert said["second"] == await there.explain("second")
    assert said["second"].reason is said["third"].reason is Standstill.NO_SLOT
    assert "pool[acme], limit 1, held by run first for 5" in said["second"].detail
    assert "it has waited for 4" in said["second"].detail
    for handle in (first, second, third):
        await until(lambda: bool(bodies.inside))
        bodies.let_go(*bodies.inside)
        await handle.result()


async def test_a_cancelled_run_waits_no_longer(world: World) -> None:
    """A waiting run that is cancelled leaves no request behind, and the next one asks in its place."""
    bodies = Bodies()
    kernel = await world.kernel()
    flow = bodies.flow(Limit(1, scope="store"))
    handles = {name: await kernel.start(flow, {}, run_id=name) for name in ("first", "second", "third")}
    await until(lambda: len(bodies.inside) == 1)
    await world.clock.advance(1)
    await handles["second"].cancel()
    with pytest.raises(RunCancelledError):
        await handles["second"].result()
    await world.clock.advance(1)
    assert [slot.run_id for slot in await slots_of(world)] == ["first", "third"]
    bodies.let_go("first")
    await until(lambda: "third" in bodies.inside)
    bodies.let_go("third")
    await handles["third"].result()


async def test_a_run_lends_its_slot_to_its_child(world: World) -> None:
    """A child uses the slot of the parent that waits for it: one slot is enough for both, and for no other run."""
    bodies = Bodies()
    kernel = await world.kernel()
    child = bodies.flow(Limit(1, scope="store", name="one"), name="child")
    parent: Workflow[str] = Workflow("call", name="parent", limit=Limit(1, scope="store", name="one"))
    parent.register("call", SubWorkflow(child, inputs={}, outputs={}, then="end")).add_exit_state("end")
    handles = [await kernel.start(parent, {}, run_id=f"run {number}") for number in range(2)]
    await until(lambda: len(bodies.inside) == 1)
    await world.clock.advance(2)
    assert len(bodies.inside) == 1
    for _ in range(2):
        await until(lambda: len(bodies.inside) == 1)
        bodies.let_go(*bodies.inside)
        await world.clock.advance(1)
    for handle in handles:
        await handle.result()
    await world.settle()
    assert await slots_of(world) == []


async def test_a_rate_holds_over_processes(world: World) -> None:
    """Of runs in two kernels, as many begin at once as the burst says, the others one after each interval."""
    kernels = [await world.kernel(), await world.kernel()]
    began, start = list[float](), world.clock.time()

    async def begin(store: Any) -> str:
        began.append(round(world.clock.time() - start, 3))
        return "end"

    handles = []
    for number in range(6):
        flow: Workflow[str] = Workflow("begin", name="rated", limit=Rate("2/10s"))
        flow.register("begin", task(begin)).add_exit_state("end")
        handles.append(await kernels[number % 2].start(flow, {}, run_id=f"run {number}"))
        await world.settle()
    await world.clock.advance(1)
    waiting = await kernels[0].explain("run 2")
    assert waiting.reason is Standstill.RATE
    assert waiting.detail.startswith("rated rate; it has waited for 1")
    await world.clock.advance(60)
    assert began == [0.0, 0.0, 5.0, 10.0, 15.0, 20.0]
    for handle in handles:
        await handle.result()


async def test_a_run_waits_for_all_that_it_needs(world: World) -> None:
    """A rate is not used up by a run that has no slot yet, and a cool-down keeps runs apart."""
    bodies = Bodies()
    kernel = await world.kernel()
    flow = bodies.flow([Limit(1, scope="store"), Rate("1/10s")])
    handles = [await kernel.start(flow, {}, run_id=f"{number}") for number in range(3)]
    await world.clock.advance(60)
    assert bodies.order == ["0"]
    bodies.let_go("0")
    await world.clock.advance(1)
    assert bodies.order == ["0", "1"], "the rate has had a pause"
    bodies.let_go("1")
    await world.clock.advance(5)
    assert bodies.order == ["0", "1"], "its slot is free, but the cool-down is not over"
    await world.clock.advance(6)
    assert bodies.order == ["0", "1", "2"]
    bodies.let_go("2")
    for handle in handles:
        await handle.result()


async def test_values_of_keys(world: World) -> None:
    """Each value of a key has slots of its own. It is a text or a whole number; long ones are kept as a hash."""
    bodies = Bodies()
    kernel = await world.kernel()
    flow = bodies.flow(Limit(1, scope="store", key="tenant"))
    values: list[Any] = ["acme", 7, "x" * 101, "a\0b", 10**5000, "\ud800"]
    handles = [await kernel.start(flow, {"tenant": value}, run_id=f"{at}") for at, value in enumerate(values)]
    await until(lambda: len(bodies.inside) == 6)
    names = sorted(slot.name for slot in await slots_of(world))
    assert names[4:] == ["flow by tenant[7]", "flow by tenant[acme]"]
    assert all(name.startswith("flow by tenant[#") and len(name) < 100 for name in names[:4])
    with pytest.raises(TaskError, match=r"a text, a whole number or a bool for all processes, not 1\.5"):
        await kernel.run(flow, {"tenant": 1.5}, run_id="wrong")
    bodies.let_go(*bodies.inside)
    for handle in handles:
        await handle.result()


async def test_runs_in_memory_use_them_too() -> None:
    """A run without an id, which the default store does not keep otherwise, is kept because of its limit."""
    bodies = Bodies()
    async with Kernel() as kernel:
        flow = bodies.flow(state=Limit(1, scope="store"))
        running = [asyncio.ensure_future(kernel.run(flow, {})) for _ in range(2)]
        await until(lambda: len(bodies.inside) == 1)
        bodies.let_go(*bodies.inside)
        await until(lambda: len(bodies.done) == 1 and len(bodies.inside) == 1)
        bodies.let_go(*bodies.inside)
        assert [(await run).state for run in running] == ["end", "end"]
        assert all(run.status.finished for run in await kernel.runs())


@pytest.mark.parametrize("limit", [Limit(1, scope="store"), Rate("1/s")])
async def test_stores_without_slots_are_refused(limit: Limit) -> None:
    """A workflow with such a limit is refused when it is bound, naming what its store lacks."""

    class Other(MemoryBackend):
        take_slots: Any = property()

        def __init__(self) -> None:
            super().__init__()
            self.capabilities = self.capabilities._replace(slots=False)

    said = r"of 'flow' needs a store with the capability 'slots', which a SlotStore has"
    kernel = Kernel(store=Other())
    flow = Bodies().flow(limit)
    kernel.bind(flow)  # its store is not open yet
    async with kernel:
        with pytest.raises(ConfigurationError, match=said):
            await kernel.run(flow, {})
        with pytest.raises(ConfigurationError, match=said):
            kernel.bind(Bodies().flow(limit))
        with pytest.raises(ConfigurationError, match="of 'flow/work' needs"):
            kernel.bind(Bodies().flow(state=limit))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Limit(1, scope="cluster"), "scope must be process or store, not 'cluster'"),
        (lambda: Limit(1, name="pool"), r"name='pool' needs scope='store'; in one kernel, share the Limit itself"),
        (lambda: Limit(1, scope="store", name="a[b"), "name must be at most 200 printable characters without"),
        (lambda: Rate("100"), 'rate must be a number and a time, such as "100/min"'),
        (lambda: Rate("0/s"), "rate must be a number and a time"),
        (lambda: Rate("1/fortnight"), "rate must be a number and a time"),
        (lambda: Rate("1/0s"), "rate must be a number and a time"),
        (lambda: Rate(100), "rate must be a number and a time"),  # type: ignore[arg-type]
        (lambda: Rate("1/s", burst=0), "burst must be a whole number"),
        (lambda: Workflow("a", limit=[Limit(1, scope="store", name="x"), Limit(2, scope="store", name="x")]), "twice"),
    ],
)
def test_what_is_wrong_is_named(make: Callable[[], Any], said: str) -> None:
    """A wrong argument is refused, with what is allowed."""
    with pytest.raises(ConfigurationError, match=said):
        make()


async def test_one_name_for_two_limits_is_refused() -> None:
    """Limits that would mean the same slots by mistake, or for which a run would wait for itself, are refused."""
    async with Kernel() as kernel:
        with pytest.raises(ConfigurationError, match="limits of 'flow' would have one name in the store"):
            kernel.bind(Bodies().flow([Limit(1, scope="store"), Limit(2, scope="store")]))
        one = Limit(1, scope="store", name="one")
        with pytest.raises(ConfigurationError, match="a run would wait for itself"):
            kernel.bind(Bodies().flow(one, Limit(1, scope="store", name="one")))


@pytest.mark.parametrize(
    ("rate", "interval", "burst"),
    [("100/min", 0.6, 100), ("5/s", 0.2, 5), ("1/10m", 600.0, 1), ("2 / hour", 1800.0, 2), ("10/1.5h", 540.0, 10)],
)
def test_rates_are_parsed(rate: str, interval: float, burst: int) -> None:
    """A rate is a number and a time; its number is the burst."""
    made = Rate(rate)
    assert (made.interval, made.limit, made.scope) == (interval, burst, "store")
    assert repr(Rate(rate, burst=1, key="k", name="n")) == f"Rate({rate!r}, burst=1, key='k', name='n')"


async def test_members_of_enums_share_slots_with_their_values() -> None:
    """A member of an enum, which some codecs read back as its value, has the slots of that value."""

    class Tenant(str, enum.Enum):  # noqa: UP042  # its text is not its value
        ACME = "acme"

    class Number(enum.IntEnum):
        SEVEN = 7

    bodies = Bodies()
    async with Kernel() as kernel:
        flow = bodies.flow(Limit(1, scope="store", key="tenant"))
        handles = [
            await kernel.start(flow, {"tenant": value}, run_id=f"{at}")
            for at, value in enumerate([Tenant.ACME, "acme", Number.SEVEN, 7])
        ]
        await until(lambda: waiting(kernel) == 2)
        assert sorted(bodies.inside) == ["0", "2"]
        bodies.let_go("0", "2")
        await until(lambda: set(bodies.inside) == {"1", "3"})
        bodies.let_go("1", "3")
        for handle in handles:
            await handle.result()


async def test_a_limit_and_a_rate_of_one_name_are_two(world: World) -> None:
    """A limit and a rate may have one name; neither counts the runs of the other."""
    bodies = Bodies()
    kernel = await world.kernel()
    limited = bodies.flow([Limit(1, scope="store", name="api"), Rate("1/100s", name="api")], name="both")
    other = bodies.flow(Rate("1/100s", name="api"), name="rated")
    handles = [await kernel.start(limited, {}, run_id="first")]
    await until(lambda: "first" in bodies.inside)
    handles += [await kernel.start(other, {}, run_id="second"), await kernel.start(limited, {}, run_id="third")]
    await world.clock.advance(1)
    assert [(slot.name, slot.run_id, slot.waits) for slot in await slots_of(world)] == [
        ("api", "first", False), ("api", "third", True), ("api rate", "second", True),
    ]  # fmt: skip
    bodies.let_go("first")
    for name in ("second", "third"):
        await world.clock.advance(101)
        await until(lambda name=name: name in bodies.inside)  # type: ignore[misc]
        bodies.let_go(name)
    for handle in handles:
        await handle.result()


def test_a_key_without_a_name_is_refused() -> None:
    """The name of a limit must be the same in all processes: a key that is an object has none to give."""
    key = functools.partial(lambda number, store: number, 1)
    with pytest.raises(ConfigurationError, match="of 'flow' needs a name=, since its key has none"):
        Kernel().bind(Bodies().flow(Limit(1, scope="store", key=key)))
    Kernel().bind(Bodies().flow(Limit(1, scope="store", key=key, name="one")))


def waiting(kernel: Kernel) -> int:
    """How many runs of a kernel wait for a slot."""
    return sum(run.waits_for is not None for run in list(kernel.active.values()))


async def test_runs_of_a_batch_ask_in_turn() -> None:
    """Of the runs that a batch starts, which lends them nothing, one at a time asks the store."""
    asked, go = list[str](), asyncio.Event()

    class Counting(MemoryBackend):
        async def take_slots(self, request: SlotRequest, now: float, at: float | None = None) -> float:
            asked.append(request.run_id)
            return await super().take_slots(request, now, at)

    async def work(store: Any) -> str:
        await go.wait()
        return "end"

    flow: Workflow[str] = Workflow("work", name="each", limit=Limit(2, scope="store"))
    flow.register("work", task(work)).add_exit_state("end")
    async with Kernel(store=Counting(strict=True), poll=3600) as kernel:
        batch = ConcurrentWorkflow(flow, limit=20, kernel=kernel)

        async def let_go() -> None:
            await until(lambda: waiting(kernel) == 18)
            assert len(asked) == 3
            go.set()

        status, _ = await asyncio.gather(batch.execute_durable([{} for _ in range(20)], "batch"), let_go())
    assert status.completed == 20
    assert len(asked) <= 40, "each asks when it comes and when a slot is free, and not whenever any slot is"


def test_runs_of_several_threads_wait_for_each_other() -> None:
    """A kernel that executes runs in event loops of several threads lets each of them have its turn."""
    kernel, done = Kernel(), list[str]()

    async def work(store: Any) -> str:
        await until(lambda: waiting(kernel) == 3 - len(done))
        return "end"

    flow: Workflow[str] = Workflow("work", name="threads", limit=Limit(1, scope="store"))
    flow.register("work", task(work)).add_exit_state("end")

    async def one() -> None:
        done.append((await kernel.run(flow, {})).state)

    threads = [threading.Thread(target=asyncio.run, args=[one()], daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert done == ["end"] * 4
    asyncio.run(kernel.close())
