"""A run's `timeout` is a time of the wall clock: it stays while the run waits, and while no process drives it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from cano import (
    CanoError,
    Kernel,
    RunHandle,
    RunStatus,
    RunTimeoutError,
    SerializationError,
    Standstill,
    StepTimeoutError,
    SubWorkflow,
    TaskConfig,
    Wait,
    Workflow,
    current_step,
    hookimpl,
    sleep_until,
    wait_for,
)
from cano.testing import VirtualClock
from cano_durability.keeper import Keeper

if TYPE_CHECKING:
    from tests.plugins.durability.conftest import World


class After:
    """Another attempt, many seconds later."""

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """Always."""
        return 1000.0


@dataclass
class Slow:
    """A workflow that waits as it is told, and then works for some seconds.

    Attributes:
        pause: what its first step returns, or raises.
        takes: seconds that its second step takes.
        did: the states of the steps that it has begun, with the payload of each.
    """

    clock: VirtualClock
    pause: Any = "work"
    takes: float = 0
    did: list[tuple[str, Any]] = field(default_factory=list)

    async def ask(self, store: Any) -> Any:
        """Wait."""
        self.did.append(("ask", None))
        if isinstance(self.pause, Exception):
            raise self.pause
        return self.pause

    async def work(self, store: Any) -> str:
        """Take a while."""
        self.did.append((current_step().state, current_step().payload))
        await self.clock.sleep(self.takes)
        return "end"

    def flow(self) -> Workflow[Any]:
        """Its workflow."""
        flow: Workflow[Any] = Workflow("ask", name="slow", default_config=TaskConfig(retry=After()))
        flow.register("ask", self.ask).register("work", self.work).register("late", self.work)
        return flow.add_exit_states(["end", "in vain"])

    async def start(self, kernel: Kernel, timeout: float | None = 60) -> RunHandle:
        """Begin a run `r`, and return when it has come as far as it can."""
        handle = await kernel.start(self.flow(), run_id="r", timeout=timeout)
        await self.clock.advance(0)
        return handle


@pytest.fixture
def slow(world: World) -> Slow:
    """A workflow that takes its time."""
    return Slow(world.clock)


async def ends(world: World, at: float) -> None:
    """Check that the run ends by its timeout at that time, and not before."""
    await world.clock.advance(at - world.clock.time() - 1)
    assert not (await world.look("r")).status.finished
    await world.clock.advance(1)
    record = await world.look("r")
    assert (record.status, record.holder) == (RunStatus.FAILED, None)
    assert record.error is not None
    assert record.error["type"] == "RunTimeoutError"


WAITS = {
    "for a signal": wait_for("go", then="work"),
    "to its end": wait_for("go", then="end"),
    "for long": wait_for("go", then="work", timeout=100, on_timeout="late"),
    "as long": wait_for("go", then="work", timeout=60, on_timeout="late"),
    "for a time": sleep_until(1_700_000_100, then="work"),
    "to retry": ValueError("as it was told to"),
}


@pytest.mark.parametrize("waits", WAITS)
async def test_a_parked_run_ends_in_time(kernel: Kernel, world: World, slow: Slow, waits: str) -> None:
    """The deadline wakes a run that is parked for longer, and it goes no further."""
    slow.pause = WAITS[waits]
    begun = world.clock.time()
    handle = await slow.start(kernel)
    assert handle.status().status is RunStatus.PARKED
    await ends(world, begun + 60)
    with pytest.raises(RunTimeoutError, match="longer than 60 s") as caught:
        await handle.result()
    assert caught.value.timeout == 60
    assert slow.did == [("ask", None)]


@pytest.mark.parametrize("waits", WAITS)
async def test_a_parked_run_ends_in_time_without_its_process(
    kernel: Kernel, world: World, slow: Slow, waits: str
) -> None:
    """Another process sees to the deadline of a run that was parked by one that is gone."""
    slow.pause = WAITS[waits]
    begun = world.clock.time()
    await slow.start(kernel)
    await world.crash(kernel)
    await world.clock.advance(10)
    assert await (await world.kernel()).recover(slow.flow()) == []
    await ends(world, begun + 60)
    assert slow.did == [("ask", None)]


async def test_a_wait_ends_before_the_run(kernel: Kernel, world: World, slow: Slow) -> None:
    """A wait that ends earlier is over by itself; what follows has what is left."""
    slow.pause, slow.takes = wait_for("go", then="work", timeout=50, on_timeout="late"), 11
    begun = world.clock.time()
    await slow.start(kernel)
    await world.clock.advance(50)
    assert slow.did == [("ask", None), ("late", None)]
    await ends(world, begun + 60)


@pytest.mark.parametrize("takes", [19, 21])
async def test_waiting_uses_up_the_time(kernel: Kernel, world: World, slow: Slow, takes: float) -> None:
    """After a signal the run has what is left."""
    slow.pause, slow.takes = wait_for("go", then="work"), takes
    begun = world.clock.time()
    handle = await slow.start(kernel)
    await world.clock.advance(40)
    await kernel.signal("r", "go", 7)
    if takes > 20:
        await ends(world, begun + 60)
    else:
        await world.clock.advance(takes)
        assert (await handle.result()).state == "end"
    assert slow.did == [("ask", None), ("work", 7)]


async def test_a_signal_after_the_time(kernel: Kernel, world: World, slow: Slow) -> None:
    """A signal that comes when nobody has noticed yet that the time is over is too late."""
    slow.pause = wait_for("go", then="end")
    await slow.start(kernel)
    await world.crash(kernel)
    other = await world.kernel()
    await world.clock.advance(61)
    explained = await other.explain("r")
    assert explained.reason is Standstill.READY
    assert "timeout of 60 s" in explained.detail
    await other.signal("r", "go")
    (handle,) = await other.recover(slow.flow())
    with pytest.raises(RunTimeoutError):
        await handle.result()
    assert slow.did == [("ask", None)]


async def test_a_run_that_crashed_ends_in_time(kernel: Kernel, world: World, slow: Slow) -> None:
    """A run that is taken over has what was left, as if it had not been interrupted."""
    slow.takes = 100
    begun = world.clock.time()
    await slow.start(kernel)
    await world.crash(kernel)
    await world.lapse()
    (handle,) = await (await world.kernel()).recover(slow.flow())
    await ends(world, begun + 60)
    with pytest.raises(RunTimeoutError, match="state work"):
        await handle.result()
    assert slow.did == [("ask", None), ("work", None), ("work", None)]


@pytest.mark.parametrize("how", ["recover", "run", "resume"])
async def test_a_run_whose_time_is_over_is_not_driven(kernel: Kernel, world: World, slow: Slow, how: str) -> None:
    """A run that is taken up too late ends at once, and its observers see that."""
    seen: list[str] = []

    class Watch:
        """Sees runs begin and end."""

    def noted(name: str) -> Any:
        def see(self: Watch, run: Any) -> None:
            seen.append(name)

        see.__name__ = f"cano_run_{name}"
        return hookimpl(see)

    for name in ("started", "finished"):
        setattr(Watch, f"cano_run_{name}", noted(name))

    slow.takes = 100
    await slow.start(kernel)
    await world.crash(kernel)
    await world.clock.advance(100)
    other = await world.kernel(plugins=[Watch()])
    if how == "recover":
        (handle,) = await other.recover(slow.flow())
        ending: Any = handle.result()
    elif how == "run":  # it has a limit of its own already, which stays
        ending = other.run(slow.flow(), run_id="r", timeout=1000)
    else:
        ending = other.resume(slow.flow(), "r")
    with pytest.raises(RunTimeoutError, match="longer than 60 s"):
        await ending
    record = await world.look("r")
    assert (record.status, record.state, record.seq, record.holder) == (RunStatus.FAILED, "work", 1, None)
    assert slow.did == [("ask", None), ("work", None)]
    assert seen == ["started", "finished"]


async def test_resumed_it_has_as_long_again(kernel: Kernel, world: World, slow: Slow) -> None:
    """A run that failed by its timeout can go on, when somebody says so; not for ever."""
    slow.takes = 100
    await slow.start(kernel)
    await world.clock.advance(60)
    await world.clock.advance(500)
    resumed = asyncio.ensure_future(kernel.resume(slow.flow(), "r"))
    await world.settle()
    again = world.clock.time()
    await world.crash(kernel)
    with pytest.raises(CanoError):
        await resumed
    await world.lapse()
    other = await world.kernel()
    await other.recover(slow.flow())
    await ends(world, again + 60)
    slow.takes = 0
    assert (await other.resume(slow.flow(), "r")).state == "end"


async def test_a_timeout_may_come_later(kernel: Kernel, world: World, slow: Slow) -> None:
    """A run that has no limit is given one by who goes on with it; this one stays too."""
    slow.takes = 1000
    await slow.start(kernel, timeout=None)
    for _ in range(2):
        await world.crash(kernel)
        await world.lapse()
        kernel = await world.kernel()
        await slow.start(kernel, timeout=60)
    await ends(world, 1_700_000_000 + 31 + 60)


async def test_a_fork_has_as_long_again(kernel: Kernel, world: World, slow: Slow) -> None:
    """Time travel does not end where the time was over: a fork's time begins with it."""
    slow.pause = wait_for("go", then="work")
    begun = world.clock.time()
    await slow.start(kernel)
    await world.clock.advance(50)
    await kernel.fork("r", 1, "waiting")
    await kernel.fork("r", 0, "begins")
    assert (await world.look("r")).wait == Wait(then="work", signal="go", until=begun + 60)
    assert (await world.look("waiting")).wait == Wait(then="work", signal="go", until=begun + 110)
    await kernel.recover(slow.flow())
    await world.clock.advance(59)
    assert {(await world.look(run)).status for run in ("waiting", "begins")} == {RunStatus.PARKED}
    await world.clock.advance(1)
    await world.clock.advance(1)  # a kernel that did not park it looks once a second
    assert {(await world.look(run)).status for run in ("waiting", "begins")} == {RunStatus.FAILED}


async def test_children_end_with_it(kernel: Kernel, world: World, slow: Slow) -> None:
    """The children of a run that is taken up too late are waited for by nobody: they are cancelled."""
    slow.pause = wait_for("go", then="work")
    parent: Workflow[Any] = Workflow("call", name="parent").add_exit_state("end")
    parent.register("call", SubWorkflow(slow.flow(), then="end"))
    await kernel.start(parent, run_id="r", timeout=60)
    await world.settle()
    await world.crash(kernel)
    await world.clock.advance(61)
    other = await world.kernel()
    (handle,) = await other.recover(parent)
    with pytest.raises(RunTimeoutError):
        await handle.result()
    assert [(run.workflow, run.status) for run in await other.runs(parent="r")] == [("slow", RunStatus.CANCELLED)]
    assert await other.check() == []


async def test_a_clock_that_is_set_back_gives_no_more_time(kernel: Kernel, world: World, slow: Slow) -> None:
    """A run that goes on never has longer than its timeout, whatever the wall clock says."""
    slow.pause, slow.takes = wait_for("go", then="work"), 100
    await slow.start(kernel)
    world.clock._wall -= 5000
    await kernel.signal("r", "go")
    await world.settle()
    await ends(world, world.clock.time() + 60)


async def test_a_damaged_deadline_is_an_error(kernel: Kernel, world: World, slow: Slow) -> None:
    """What makes no sense is said, and the run is left as it is."""
    slow.pause = wait_for("go", then="work")
    await slow.start(kernel)
    assert isinstance(kernel.keeper, Keeper)
    name, values, store = "deadline", kernel.keeper.stored.values, world.store(kernel).backend
    record = await world.look("r")
    damaged = {**record.own, name: values.encode(name, ["soon"])}
    await store.create(record._replace(run_id="d", own=damaged))
    why = await kernel.explain("d")
    assert why.reason is Standstill.UNREADABLE
    assert why.detail.startswith("run d is corrupt: its deadline")
    await kernel.signal("d", "go")
    with pytest.raises(SerializationError, match="run d is corrupt: its deadline"):
        await kernel.resume(slow.flow(), "d")
    assert (await world.look("d")).status is RunStatus.PARKED
    assert await kernel.cancel("d")
    assert (await world.look("d")).status is RunStatus.CANCELLED


async def test_the_limit_of_a_step_is_kept_with_its_error(kernel: Kernel, world: World) -> None:
    """An error that is read from the store has its seconds, too."""

    async def hang(store: Any) -> str:
        await world.clock.sleep(1000)
        return "end"

    flow: Workflow[Any] = Workflow("hang", name="hangs", default_config=TaskConfig(retry=None, timeout=5))
    flow.register("hang", hang).add_exit_state("end")
    handle = await kernel.start(flow, run_id="r")
    await world.clock.advance(5)
    with pytest.raises(StepTimeoutError):
        await handle.result()
    with pytest.raises(StepTimeoutError) as caught:
        await (await world.kernel()).run(flow, run_id="r")
    assert caught.value.timeout == 5


@pytest.mark.parametrize("own", [60, None])
@pytest.mark.parametrize("failed", [True, False])
@pytest.mark.parametrize(("given", "ends_well"), [(500, True), (5, False)])
async def test_resume_with_another_timeout(
    kernel: Kernel, world: World, slow: Slow, own: float | None, failed: bool, given: float, ends_well: bool
) -> None:
    """`resume(timeout=)` counts from the call, in place of the run's own timeout; the next process keeps to it."""
    slow.takes = 100
    if failed:
        slow.pause = "nowhere"  # which is refused
        await slow.start(kernel, own)
        slow.pause = "work"
    else:
        await slow.start(kernel, own)
        await world.crash(kernel)
        await world.lapse()
    other = await world.kernel()
    begun = world.clock.time()
    resumed = asyncio.ensure_future(other.resume(slow.flow(), "r", timeout=given))
    await world.settle()
    if ends_well:
        await world.clock.advance(100)
        assert (await resumed).state == "end"
    else:
        await ends(world, begun + given)
        with pytest.raises(RunTimeoutError, match="longer than 5 s"):
            await resumed


async def test_resume_a_wait_with_another_timeout(kernel: Kernel, world: World, slow: Slow) -> None:
    """A run that failed by its timeout while it waited waits again, for as long as `resume` allows."""
    slow.pause = wait_for("go", then="end")
    begun = world.clock.time()
    handle = await slow.start(kernel)
    await ends(world, begun + 60)
    with pytest.raises(RunTimeoutError):
        await handle.result()
    begun = world.clock.time()
    resumed = asyncio.ensure_future(kernel.resume(slow.flow(), "r", timeout=500))
    await world.settle()
    assert (await world.look("r")).status is RunStatus.PARKED
    await ends(world, begun + 500)
    with pytest.raises(RunTimeoutError, match="longer than 500 s"):
        await resumed
