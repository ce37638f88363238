"""What a handle says of a run that was parked, and how runs are cancelled wherever they are."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from cano import (
    Kernel,
    RunCancelledError,
    RunHandle,
    RunInfo,
    RunNotFoundError,
    RunResult,
    RunStatus,
    StoreUnavailableError,
    TaskConfig,
    TaskError,
    Workflow,
    current_step,
    wait_for,
)

if TYPE_CHECKING:
    from tests.plugins.durability.conftest import World

LEASE = 30.0


class Two:
    """A step that waits, and one that may be held up, or fail."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.fails = False

    async def ask(self, store: Any) -> Any:
        """Wait for a signal."""
        store["asked"] = True
        return wait_for("go", then="work")

    async def work(self, store: Any) -> str:
        """Say how far it is, and wait to be let go."""
        current_step().progress(1, 2, "half")
        await self.gate.wait()
        if self.fails:
            raise ValueError
        return "end"

    def flow(self) -> Workflow[Any]:
        """Its workflow."""
        flow: Workflow[Any] = Workflow("ask", name="two")
        return flow.register("ask", self.ask).register("work", self.work).add_exit_state("end")

    async def park(self, kernel: Kernel, world: World) -> RunHandle:
        """Start one, and let it park."""
        handle = await kernel.start(self.flow(), run_id="r")
        await world.settle()
        return handle


@pytest.fixture
def two() -> Two:
    """A machine."""
    return Two()


async def test_the_status_of_a_run_that_parks(kernel: Kernel, world: World, two: Two) -> None:
    """A handle follows its run through parking, going on, and the end."""
    handle = await two.park(kernel, world)
    info = handle.status()
    assert (info.status, info.state, info.seq) == (RunStatus.PARKED, "work", 1)
    await kernel.signal("r", "go")
    await world.settle()
    info = handle.status()
    assert (info.status, info.state, info.seq, info.attempt) == (RunStatus.RUNNING, "work", 2, 1)
    assert info.progress == (1, 2, "half")
    two.gate.set()
    assert await handle.result() == RunResult("r", "end", {"asked": True}, 2)
    assert (handle.status().status, handle.status().state) == (RunStatus.SUCCEEDED, "end")
    assert await handle.result() == RunResult("r", "end", {"asked": True}, 2)


def seen(info: RunInfo) -> tuple[RunStatus, Any, int, int]:
    """What the store knows of a run."""
    return info.status, info.state, info.seq, info.attempt


async def test_the_status_of_a_run_of_another_kernel(kernel: Kernel, world: World, two: Two) -> None:
    """It is what was last read, with the time of that, and never changes by itself; `refresh` reads again."""
    other = await world.kernel()
    await two.park(kernel, world)
    await kernel.signal("r", "go")
    await world.settle()
    began = world.clock.time()
    handle = await other.start(two.flow(), run_id="r")
    assert seen(handle.status()) == (RunStatus.RUNNING, "work", 2, 1)
    assert handle.status().as_of == began

    two.gate.set()
    await world.settle()
    await world.clock.advance(5)
    assert (seen(handle.status())[0], handle.status().as_of) == (RunStatus.RUNNING, began)
    info = await handle.refresh()
    assert seen(info) == (RunStatus.SUCCEEDED, "end", 2, 1)
    assert info == handle.status()
    assert info.as_of == began + 5
    assert (await handle.result()).state == "end"


@pytest.mark.parametrize("ends", ["work", "fail", "cancel", "crash"])
async def test_every_handle_says_what_the_store_says(kernel: Kernel, world: World, two: Two, ends: str) -> None:
    """For each status, the kernel that executed a run, another one, and the list of runs agree."""
    other = await world.kernel()
    here = await two.park(kernel, world)
    there = await other.start(two.flow(), run_id="r")

    async def agree(status: RunStatus, state: str, seq: int, attempt: int = 1) -> None:
        for handle in (here, there):
            assert seen(await handle.refresh()) == seen(handle.status()) == (status, state, seq, attempt)
        (record,) = await other.runs()
        assert (record.status, record.state) == (status, state)

    assert seen(here.status()) == seen(there.status())
    await agree(RunStatus.PARKED, "work", 1)
    await kernel.signal("r", "go")
    await world.settle()
    assert here.status().progress is not None
    await agree(RunStatus.RUNNING, "work", 2)
    two.fails = ends == "fail"
    if ends == "cancel":
        await here.cancel()
        assert isinstance((await there.refresh()).error, RunCancelledError)
        await agree(RunStatus.CANCELLED, "work", 1)
    elif ends == "crash":
        await world.crash(kernel)
        await world.lapse()
        assert seen(await there.refresh()) == (RunStatus.INTERRUPTED, "work", 2, 1)
    else:
        two.gate.set()
        await world.settle()
        before = seen(here.status())
        await agree(*before)
        assert before == ((RunStatus.FAILED, "work", 2, 1) if two.fails else (RunStatus.SUCCEEDED, "end", 2, 1))
        error = there.status().error
        assert isinstance(error, TaskError) if two.fails else error is None


async def test_a_retry_that_is_far_away(kernel: Kernel, world: World) -> None:
    """A run that is parked until its next attempt is in the step that failed, in every kernel."""

    class Slow:
        def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
            return 3600

    async def fail(store: Any) -> str:
        raise ConnectionError

    flow = Workflow("a", name="f", default_config=TaskConfig(retry=Slow())).register("a", fail).add_exit_state("b")
    here = await kernel.start(flow, run_id="r")
    await world.settle()
    there = await (await world.kernel()).start(flow, run_id="r")
    assert seen(here.status()) == seen(there.status()) == (RunStatus.PARKED, "a", 1, 1)


async def test_as_of(kernel: Kernel, world: World, two: Two) -> None:
    """For a run that the kernel executes it is now; for one that it has executed, the time when that ended."""
    handle = await two.park(kernel, world)
    parked = world.clock.time()
    await world.clock.advance(3)
    assert handle.status().as_of == parked
    assert (await handle.refresh()).as_of == parked + 3
    await kernel.signal("r", "go")
    await world.settle()
    for _ in range(2):
        await world.clock.advance(1)
        assert handle.status().as_of == world.clock.time()
    two.gate.set()
    await world.settle()
    ended = world.clock.time()
    await world.clock.advance(3)
    assert handle.status().as_of == ended


async def test_a_clock_that_was_set_back(kernel: Kernel, world: World, two: Two) -> None:
    """What was read last counts, even if the clock says that it was read earlier."""
    handle = await two.park(kernel, world)
    assert await (await world.kernel()).cancel("r")
    world.clock._wall -= 3600
    assert (await handle.refresh()).status is RunStatus.CANCELLED
    assert handle.status().status is RunStatus.CANCELLED


async def test_refreshing_a_run_that_was_deleted(kernel: Kernel, world: World, two: Two) -> None:
    """It is an error; what was read before is not forgotten."""
    two.gate.set()
    handle = await two.park(kernel, world)
    await kernel.signal("r", "go")
    await handle.result()
    await kernel.delete("r")
    with pytest.raises(RunNotFoundError):
        await handle.refresh()
    assert handle.status().status is RunStatus.SUCCEEDED


async def test_refreshing_a_run_that_no_store_keeps(kernel: Kernel, world: World, two: Two) -> None:
    """Nothing is to be read; its end is known."""
    handle = await kernel.start(Workflow("a").register("a", lambda store: "b").add_exit_state("b"), keep=False)
    await handle.result()
    assert (await handle.refresh()).status is RunStatus.SUCCEEDED


async def test_a_failure_after_parking(kernel: Kernel, world: World, two: Two) -> None:
    """The error of a run that was parked before is the handle's, with its cause."""
    handle = await two.park(kernel, world)
    two.fails = True
    two.gate.set()
    await kernel.signal("r", "go")
    for _ in range(2):
        with pytest.raises(TaskError) as caught:
            await handle.result()
        assert isinstance(caught.value.__cause__, ValueError)
    assert handle.status().status is RunStatus.FAILED
    assert handle.status().error is caught.value


async def test_a_waking_that_fails(kernel: Kernel, world: World, two: Two) -> None:
    """A handle is not misled by an attempt to let its run go on that the store has refused; the next one counts."""
    handle = await two.park(kernel, world)
    two.gate.set()
    world.faults(kernel).at_call("commit").fail(StoreUnavailableError("away"))
    await kernel.signal("r", "go")
    assert handle.status().status is RunStatus.PARKED
    waiting = asyncio.ensure_future(handle.result())
    await world.clock.advance(2)
    assert await waiting == RunResult("r", "end", {"asked": True}, 2)
    assert handle.status().status is RunStatus.SUCCEEDED


async def test_two_handles(kernel: Kernel, world: World, two: Two) -> None:
    """Every handle on a run shows the same."""
    first = await two.park(kernel, world)
    second = await kernel.start(two.flow(), run_id="r")
    assert second.status() == first.status()
    await kernel.signal("r", "go")
    await world.settle()
    assert second.status() == first.status()
    assert second.status().state == "work"
    two.gate.set()
    assert await second.result() == await first.result()


@pytest.mark.parametrize("here", [True, False])
async def test_cancelling_a_parked_run(kernel: Kernel, world: World, two: Two, here: bool) -> None:
    """A parked run can be cancelled: its waiters hear of it, and a signal does not wake it."""
    handle = await two.park(kernel, world)
    waiting = asyncio.ensure_future(handle.result())
    await world.settle()
    if here:
        await handle.cancel()
    else:
        assert await (await world.kernel()).cancel("r") is True
        await world.clock.advance(2)
    for one in (waiting, handle.result()):
        with pytest.raises(RunCancelledError):
            await one
    assert (await world.look("r")).status is RunStatus.CANCELLED
    assert await kernel.signal("r", "go") is False
    if here:
        assert handle.status().status is RunStatus.CANCELLED
        assert isinstance(handle.status().error, RunCancelledError)
    await handle.cancel()  # harmless


async def test_cancelling_a_run_that_went_on(kernel: Kernel, world: World, two: Two) -> None:
    """The handle of a run that was parked cancels what drives it now."""
    handle = await two.park(kernel, world)
    await kernel.signal("r", "go")
    await world.settle()
    await handle.cancel()
    with pytest.raises(RunCancelledError):
        await handle.result()
    record = await world.look("r")
    assert (record.status, record.state, record.holder) == (RunStatus.CANCELLED, "work", None)


async def test_cancelling_a_run_that_has_ended(kernel: Kernel, world: World, two: Two) -> None:
    """A run that has ended stays what it is."""
    two.gate.set()
    handle = await two.park(kernel, world)
    await kernel.signal("r", "go")
    result = await handle.result()
    await handle.cancel()
    assert await kernel.cancel("r") is False
    assert await handle.result() == result
    assert (await world.look("r")).status is RunStatus.SUCCEEDED
    with pytest.raises(RunNotFoundError, match="'nobody'"):
        await kernel.cancel("nobody")


async def test_cancelling_an_interrupted_run(kernel: Kernel, world: World, two: Two) -> None:
    """A run that nobody drives is cancelled in the store, at once."""
    await two.park(kernel, world)
    await kernel.signal("r", "go")
    await world.settle()
    await kernel.close()
    other = await world.kernel()
    assert await other.cancel("r") is True
    assert (await world.look("r")).status is RunStatus.CANCELLED
    assert await other.recover(two.flow()) == []


async def start_working(kernel: Kernel, world: World, two: Two) -> RunHandle:
    """A run that is in its second step."""
    handle = await two.park(kernel, world)
    await kernel.signal("r", "go")
    await world.settle()
    return handle


async def test_cancelling_here(kernel: Kernel, world: World, two: Two) -> None:
    """`kernel.cancel` ends a run that this kernel drives."""
    handle = await start_working(kernel, world, two)
    assert await kernel.cancel("r") is True
    with pytest.raises(RunCancelledError):
        await handle.result()


async def test_cancelling_elsewhere(kernel: Kernel, world: World, two: Two) -> None:
    """A run that another kernel drives is cancelled by that one, when it renews its lease."""
    handle = await start_working(kernel, world, two)
    assert await (await world.kernel()).cancel("r") is True
    await world.clock.advance(LEASE / 2)
    with pytest.raises(RunCancelledError):
        await handle.result()
    record = await world.look("r")
    assert (record.status, record.holder) == (RunStatus.CANCELLED, None)


async def test_cancelling_a_run_whose_holder_dies(kernel: Kernel, world: World, two: Two) -> None:
    """What was asked of a holder that died is done by whoever takes the run over."""
    await start_working(kernel, world, two)
    await (await world.kernel()).cancel("r")
    await world.crash(kernel)
    await world.lapse()
    other = await world.kernel()
    assert await other.recover(two.flow()) == []
    assert (await world.look("r")).status is RunStatus.CANCELLED


async def test_cancelling_a_run_that_parks_in_that_moment(kernel: Kernel, world: World, two: Two) -> None:
    """A run whose holder parks it before it hears of the cancellation is cancelled all the same."""
    commit = world.faults(kernel).at_call("commit").hang()
    handle = await kernel.start(two.flow(), run_id="r")
    await commit.reached()
    assert await (await world.kernel()).cancel("r") is True
    commit.release()
    with pytest.raises(RunCancelledError):
        await handle.result()
    assert (await world.look("r")).status is RunStatus.CANCELLED


async def test_a_cancellation_that_came_too_late(kernel: Kernel, world: World, two: Two) -> None:
    """A run that failed before its holder heard of a cancellation has failed; resumed, it is not cancelled."""
    handle = await start_working(kernel, world, two)
    await (await world.kernel()).cancel("r")
    two.fails = True
    two.gate.set()
    with pytest.raises(TaskError):
        await handle.result()
    two.fails = False
    two.gate.clear()
    resumed = asyncio.ensure_future(kernel.resume(two.flow(), "r"))
    await world.clock.advance(LEASE)
    two.gate.set()
    assert (await resumed).state == "end"


async def test_dropping_a_handle(kernel: Kernel, world: World, two: Two) -> None:
    """A run goes on without anybody who looks at it."""
    await start_working(kernel, world, two)
    two.gate.set()
    await world.settle()
    assert (await world.look("r")).status is RunStatus.SUCCEEDED


async def test_a_handle_on_a_run_elsewhere(kernel: Kernel, world: World, two: Two) -> None:
    """A handle on a run that another kernel drives waits for its end, and can cancel it."""
    await start_working(kernel, world, two)
    other = await world.kernel()
    handle = await other.start(two.flow(), run_id="r")
    waiting = asyncio.ensure_future(handle.result())
    await handle.cancel()
    await world.clock.advance(LEASE / 2 + 1)
    with pytest.raises(RunCancelledError):
        await waiting
