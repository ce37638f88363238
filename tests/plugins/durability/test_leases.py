"""Leases of live processes: whatever the clocks and the store do, nothing that runs is taken over."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from cano import (
    ConflictError,
    JoinConfig,
    JoinStrategy,
    Kernel,
    RunStatus,
    StoreUnavailableError,
    Workflow,
    current_step,
    sleep_until,
    wait_for,
)
from cano.engine.ports import new_holder
from cano_durability.keeper import Keeper

from tests.plugins.durability.conftest import LEASE, POLL

if TYPE_CHECKING:
    from tests.plugins.durability.conftest import World


class Gate:
    """A workflow whose step waits until it is let through, and the runs that have begun it, in order."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.open = asyncio.Event()
        self.flow = Workflow("work", name="gate").register("work", self.work).add_exit_state("end")

    async def work(self, store: Any) -> str:
        """Wait."""
        self.begun.append(current_step().run_id)
        await self.open.wait()
        return "end"


@pytest.fixture
def gate() -> Gate:
    """A gate that is shut."""
    return Gate()


async def here(world: World) -> Kernel:
    """A kernel whose process every other one of this machine can see to be alive: it is this one."""
    kernel = await world.kernel()
    assert isinstance(kernel.keeper, Keeper)
    kernel.keeper.stored.holder = new_holder()
    return kernel


async def test_a_clock_put_forward_takes_nothing(world: World, gate: Gate) -> None:
    """When the wall clock jumps past all leases, the holders renew before another process on the machine takes over."""
    holder, other = await here(world), await here(world)
    handle = await holder.start(gate.flow, run_id="r")
    await world.settle()
    await other.recover(gate.flow)

    world.clock._wall += 10 * LEASE
    assert await other.recover(gate.flow) == []
    await world.clock.advance(2 * LEASE)

    assert (gate.begun, (await world.look("r")).token) == (["r"], 1)
    gate.open.set()
    assert (await handle.result()).state == "end"


async def test_a_silent_holder_has_one_more_lease(world: World, gate: Gate) -> None:
    """An expired lease whose holder is alive here is taken when it was not renewed for one lease since it was seen."""
    silent, other = await here(world), await here(world)
    world.faults(silent).at_call("renew", None).hang()
    world.faults(silent).at_call("release", None).hang()
    stopped = await silent.start(gate.flow, run_id="r")
    await world.settle()
    await world.clock.advance(LEASE + 1)

    assert await other.recover(gate.flow) == []
    await world.clock.advance(LEASE - 2 * POLL)
    assert gate.begun == ["r"]
    await world.clock.advance(4 * POLL)
    assert gate.begun == ["r", "r"]

    with pytest.raises(ConflictError, match="run r lost its lease: it could not be renewed in time"):
        await stopped.result()


@pytest.mark.parametrize("lease", [1.0, 2.0, 30.0])
async def test_a_renewal_may_fail_thrice(world: World, gate: Gate, lease: float) -> None:
    """The fourth one comes before the lease is no longer safe, however short it is."""
    kernel = await world.kernel(lease=lease)
    for number in range(1, 4):
        world.faults(kernel).at_call("renew", number).fail(StoreUnavailableError("it is away"))
    handle = await kernel.start(gate.flow, run_id="r")
    await world.clock.advance(lease)
    gate.open.set()
    assert (await handle.result()).state == "end"


async def test_a_stopped_process_begins_nothing_past_its_lease(world: World, gate: Gate) -> None:
    """A step that ends after the lease was safe is committed if no other holder came, and no further step begins."""
    holder = await here(world)
    flow = Workflow("first", name="two").add_exit_state("end")

    async def first(store: Any) -> str:
        gate.begun.append("first")
        world.clock._now += LEASE  # as if the process had been stopped: no timer has fired
        return "second"

    async def second(store: Any) -> str:
        gate.begun.append("second")
        return "end"

    flow.register("first", first).register("second", second)
    with pytest.raises(ConflictError, match="run r lost its lease: it could not be renewed in time"):
        await holder.run(flow, run_id="r")

    assert gate.begun == ["first"]
    record = await world.look("r")
    assert (record.status, record.state, record.seq, record.holder) == (RunStatus.RUNNING, "second", 1, None)
    assert (await holder.resume(flow, "r")).state == "end"
    assert gate.begun == ["first", "second"]


async def test_recover_returns_every_ready_run(world: World, gate: Gate) -> None:
    """`recover` takes over all that is ready, in groups, and returns a handle of each, also beside its own polls."""
    run_ids = [f"r{number}" for number in range(250)]
    first = await world.kernel()
    for run_id in run_ids:
        await first.start(gate.flow, run_id=run_id)
    await world.settle()
    await world.close(first)
    gate.begun.clear()
    second = await world.kernel()

    handles = await second.recover(gate.flow)

    assert sorted(handle.run_id for handle in handles) == sorted(run_ids)
    await world.settle()
    assert sorted(gate.begun) == sorted(run_ids)
    gate.open.set()


async def test_recover_with_a_limit_goes_on_as_runs_end(world: World) -> None:
    """With `concurrency=` that many are executed at once; each that ends makes room for another."""
    first, run_ids = await world.kernel(), [f"r{number}" for number in range(7)]
    running, most, release = 0, 0, asyncio.Semaphore(0)

    async def work(store: Any) -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await release.acquire()
        running -= 1
        return "end"

    flow = Workflow("work", name="limited").register("work", work).add_exit_state("end")
    for run_id in run_ids:
        await first.start(flow, run_id=run_id)
    await world.settle()
    await world.close(first)
    running = most = 0
    second = await world.kernel()

    assert len(await second.recover(flow, concurrency=3)) == 3
    await world.clock.advance(3 * POLL)
    assert running == 3
    for _ in run_ids:
        release.release()
        await world.clock.advance(2 * POLL)

    assert most == 3
    assert {record.status for record in await second.runs()} == {RunStatus.SUCCEEDED}


@pytest.mark.parametrize("wrong", [0, -1, True, 1.5, "2"])
async def test_a_limit_is_a_whole_number(world: World, gate: Gate, wrong: Any) -> None:
    """Anything else is refused before a run is taken over."""
    kernel = await world.kernel()
    with pytest.raises(ValueError, match="concurrency must be a whole number, 1 or more, or None, not"):
        await kernel.recover(gate.flow, concurrency=wrong)


# runs that begin in memory, and parts of runs


async def test_a_run_in_memory_is_not_stored_over_another(world: World, gate: Gate) -> None:
    """A run with `keep=False` that comes to wait under an id that the store has is refused; the other goes on."""
    first, second = await world.kernel(), await world.kernel()
    handle = await first.start(gate.flow, run_id="r")
    await world.settle()
    before = await world.look("r")

    async def ask(store: Any) -> str:
        return wait_for("go", then="end")

    waiting = Workflow("ask", name="waiting").register("ask", ask).add_exit_state("end")
    late = await second.start(waiting, run_id="r", keep=False)
    with pytest.raises(ConflictError, match="the store has another run r; start the run that waits under another"):
        await late.result()

    assert await world.look("r") == before
    gate.open.set()
    assert (await handle.result()).state == "end"


async def test_a_run_that_is_stored_at_its_first_wait_is_renewed(world: World, gate: Gate) -> None:
    """Its lease is looked after like any other: if it cannot be renewed, the run stops before the lease expires."""
    kernel = await world.kernel()
    world.faults(kernel).at_call("renew", None).hang()

    async def past(store: Any) -> str:
        return sleep_until(0, then="work")

    flow = Workflow("past", name="adopted").register("past", past).register("work", gate.work).add_exit_state("end")
    handle = await kernel.start(flow, run_id="r", keep=False)
    await world.settle()
    assert gate.begun == ["r"]
    await world.clock.advance(LEASE)

    with pytest.raises(ConflictError, match="run r lost its lease: it could not be renewed in time"):
        await handle.result()


async def test_a_lease_lost_in_a_split_interrupts_the_run(world: World) -> None:
    """A branch that may not begin any more is no failed branch: the run is interrupted, and a resume runs the rest."""
    kernel, begun = await world.kernel(), list[str]()

    async def slow(store: Any) -> None:
        begun.append("slow")
        if begun == ["slow"]:
            world.clock._now += LEASE  # as if the process had been stopped

    async def quick(store: Any) -> None:
        begun.append("quick")

    join = JoinConfig(JoinStrategy.all(), "end", limit=1)
    flow = Workflow("split", name="split").register_split("split", [slow, quick], join).add_exit_state("end")
    with pytest.raises(ConflictError, match="run r lost its lease: it could not be renewed in time"):
        await kernel.run(flow, run_id="r")

    assert begun == ["slow"]
    assert (await world.look("r")).status is RunStatus.RUNNING
    assert (await kernel.resume(flow, "r")).state == "end"
    assert begun == ["slow", "quick"]


async def test_alarms_keep_to_the_limit_of_recover(world: World) -> None:
    """Of runs that wake at once `recover` executes as many as it may; other workflows do not count."""
    kernel, running, most = await world.kernel(), 0, 0
    release = asyncio.Semaphore(0)

    async def sleep(store: Any) -> str:
        return sleep_until(world.clock.time() + 10, then="work")

    async def work(store: Any) -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await release.acquire()
        running -= 1
        return "end"

    async def ask(store: Any) -> str:
        return wait_for("go", then="end")

    flow = Workflow("sleep", name="limited").register("sleep", sleep).register("work", work).add_exit_state("end")
    other = Workflow("ask", name="other").register("ask", ask).add_exit_state("end")
    for number in range(5):
        await kernel.start(flow, run_id=f"r{number}")
    asked = await kernel.start(other, run_id="other")
    await world.settle()
    assert await kernel.recover(flow, concurrency=2) == []
    await world.clock.advance(10 + 2 * POLL)
    assert running == 2

    await kernel.signal("other", "go")
    assert (await asked.result()).state == "end"
    for _ in range(5):
        release.release()
        await world.clock.advance(2 * POLL)
    assert most == 2
    assert {record.status for record in await kernel.runs(workflow="limited")} == {RunStatus.SUCCEEDED}
