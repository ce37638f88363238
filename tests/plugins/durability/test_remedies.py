"""What `explain` and errors recommend works: each test follows the recommendation."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from cano import (
    ConflictError,
    Kernel,
    Key,
    RunStatus,
    SerializationError,
    Standstill,
    StepKilledError,
    SubWorkflow,
    TaskConfig,
    TaskError,
    VersionMismatchError,
    Workflow,
    current_step,
    wait_for,
)

if TYPE_CHECKING:
    from tests.plugins.durability.conftest import World


class Shop:
    """A workflow whose first step waits for a signal, and whose second one fails, hangs or ends, as it is told."""

    def __init__(self) -> None:
        self.does = "end"
        self.paid: list[Any] = []

    async def ask(self, store: Any) -> Any:
        """Wait."""
        store["asked"] = True
        return wait_for("paid", then="pack")

    async def pack(self, store: Any) -> str:
        """Do as told."""
        self.paid.append(current_step().payload)
        if self.does == "fail":
            raise ValueError("no box")
        if self.does == "hang":
            await current_step().run.kernel.clock.sleep(1e9)
        return "end"

    def flow(self, **options: Any) -> Workflow[Any]:
        """The workflow; `options` change its definition."""
        flow: Workflow[Any] = Workflow("ask", name="shop", default_config=TaskConfig.minimal(), **options)
        return flow.register("ask", self.ask).register("pack", self.pack).add_exit_state("end")


@pytest.fixture
def shop() -> Shop:
    """A shop."""
    return Shop()


async def follow(message: object, kernel: Kernel, flow: Workflow[Any]) -> Any:
    """Make the call that the message recommends."""
    (call,) = re.findall(r"kernel\.\w+\([^()]*\)", str(message))
    return await eval(call, {"kernel": kernel, "flow": flow})


async def stopped(kernel: Kernel, world: World, shop: Shop, status: RunStatus) -> None:
    """Bring the run "the run" to that status, and let no process execute it."""
    shop.does = {RunStatus.FAILED: "fail", RunStatus.INTERRUPTED: "hang"}.get(status, "end")
    await kernel.start(shop.flow(), run_id="the run")
    await world.settle()
    if status is not RunStatus.PARKED:
        await kernel.signal("the run", "paid", 7)
        await world.settle()
    await kernel.close()
    shop.does = "end"


@pytest.mark.parametrize("how", ["recover", "resume"])
@pytest.mark.parametrize("status", [RunStatus.INTERRUPTED, RunStatus.PARKED, RunStatus.FAILED])
async def test_taking_a_run_over(kernel: Kernel, world: World, shop: Shop, status: RunStatus, how: str) -> None:
    """An interrupted run, and one whose wait is over, are taken over as `explain` says; a failed one is resumed."""
    await stopped(kernel, world, shop, status)
    other, flow = await world.kernel(), shop.flow()
    if status is RunStatus.PARKED:
        assert (await other.explain("the run")).reason is Standstill.WAITING_FOR_SIGNAL
        await other.signal("the run", "paid", 7)  # the remedy of that
    why = await other.explain("the run")
    expected = Standstill.READY if status is RunStatus.PARKED else Standstill[status.name]
    assert why.reason is expected
    assert ("recover() or" in str(why)) is (status is not RunStatus.FAILED)

    if how == "recover":
        assert len(await other.recover(flow)) == (status is not RunStatus.FAILED)
    if how == "resume" or status is RunStatus.FAILED:
        assert "resume()" in str(why)
        await other.resume(flow, "the run")
    assert (await other.run(flow, run_id="the run")).state == "end"
    assert shop.paid[-1] == 7


@pytest.mark.parametrize("status", [RunStatus.INTERRUPTED, RunStatus.PARKED, RunStatus.FAILED])
async def test_a_changed_definition(kernel: Kernel, world: World, shop: Shop, status: RunStatus) -> None:
    """`explain` recommends none of what was just refused, and says what has changed; what it recommends works."""
    await stopped(kernel, world, shop, status)
    other, changed = await world.kernel(), shop.flow(version="2")
    if status is RunStatus.PARKED:
        await other.signal("the run", "paid", 7)
    with pytest.raises(VersionMismatchError) as refused:
        await other.resume(changed, "the run")

    why = await other.explain("the run")
    assert why.reason is Standstill.CHANGED
    assert why.detail.startswith("its version was '1', this one is '2'")
    assert ("no box" in why.detail) is (status is RunStatus.FAILED)
    for remedy in ("Workflow(migrate=", "with the old program", "cancel it"):
        assert remedy in why.reason.value

    (written,) = re.findall(r"Workflow\((migrate=.*?)\)", str(refused.value))
    flow = shop.flow(version="2", **eval(f"dict({written.replace('…', repr('pack'))})", {}))
    assert (await other.resume(flow, "the run")).state == "end"


@pytest.mark.parametrize("remedy", ["the old program", "cancel"])
async def test_a_changed_definition_without_migration(kernel: Kernel, world: World, shop: Shop, remedy: str) -> None:
    """The old program finishes the run; or it is cancelled, although this program could not continue it."""
    await stopped(kernel, world, shop, RunStatus.INTERRUPTED)
    other = await world.kernel()
    await other.recover(shop.flow(version="2"))
    assert (await other.explain("the run")).reason is Standstill.CHANGED
    if remedy == "cancel":
        assert await other.cancel("the run")
        assert (await other.explain("the run")).reason is Standstill.CANCELLED
    else:
        assert (await (await world.kernel()).resume(shop.flow(), "the run")).state == "end"


async def test_a_run_that_waits_says_so_although_its_definition_has_changed(
    kernel: Kernel, world: World, shop: Shop
) -> None:
    """A run whose wait is not over waits: another program may be there to continue it."""
    await stopped(kernel, world, shop, RunStatus.PARKED)
    other = await world.kernel()
    await other.recover(shop.flow(version="2"))
    assert (await other.explain("the run")).reason is Standstill.WAITING_FOR_SIGNAL


@dataclass
class Payment:
    """A class that one program knows, and the other does not."""

    amount: int


@pytest.mark.parametrize("state", ["waits", "continued"])
@pytest.mark.parametrize("remedy", ["another program", "cancel"])
async def test_an_unreadable_payload(kernel: Kernel, world: World, shop: Shop, state: str, remedy: str) -> None:
    """`explain` names the payload; a program that knows its class continues the run, or it is cancelled."""
    shop.does = "hang"
    await kernel.start(shop.flow(types=[Payment]), run_id="the run")
    await world.settle()
    if state == "continued":
        await kernel.signal("the run", "paid", Payment(7))
        await world.settle()
        await kernel.close()
    else:
        await kernel.close()
        sender = await world.kernel()
        known = shop.flow(types=[Payment])  # a kernel keeps no workflow alive
        sender.bind(known)
        await sender.signal("the run", "paid", Payment(7))
    shop.does = "end"
    other = await world.kernel()
    with pytest.raises(SerializationError):
        await other.resume(shop.flow(), "the run")

    why = await other.explain("the run")
    assert why.reason is Standstill.UNREADABLE
    assert "the run, the signal's payload" in why.detail
    assert "Payment" in why.detail
    if remedy == "cancel":
        assert "cancel or delete it" in why.reason.value
        assert await other.cancel("the run")
        await other.delete("the run")
    else:
        assert "run a program that can read it" in why.reason.value
        assert (await other.resume(shop.flow(types=[Payment]), "the run")).state == "end"
        assert shop.paid[-1] == Payment(7)


async def test_unreadable_data(kernel: Kernel, world: World, shop: Shop) -> None:
    """`explain` names the key, also of a run that failed: resuming it would be refused."""
    key = Key("payment", Payment)

    async def keep(store: Any) -> str:
        store[key] = Payment(7)
        return "pack"

    def flow(**options: Any) -> Workflow[Any]:
        made: Workflow[Any] = Workflow("keep", name="f", default_config=TaskConfig.minimal(), **options)
        return made.register("keep", keep).register("pack", shop.pack).add_exit_state("end")

    shop.does = "fail"
    with pytest.raises(Exception, match="no box"):
        await kernel.run(flow(types=[Payment]), run_id="the run")
    shop.does = "end"
    other = await world.kernel()
    twin: Workflow[Any] = Workflow("keep", name="f", default_config=TaskConfig.minimal()).add_exit_state("end")
    twin.register("keep", shop.ask).register("pack", shop.pack)
    with pytest.raises((SerializationError, VersionMismatchError)):
        await other.resume(twin, "the run")
    why = await other.explain("the run")
    assert why.reason is Standstill.UNREADABLE
    assert "key 'payment'" in why.detail
    assert f"; it failed in state pack: task 'pack' failed: ValueError: no box; at {__file__}:" in why.detail
    assert (await other.resume(flow(types=[Payment]), "the run")).state == "end"


async def test_a_parent_whose_child_was_cancelled(kernel: Kernel, world: World, shop: Shop) -> None:
    """Resuming it fails again, as `explain` says, which recommends a fork from before that step."""
    child = shop.flow()
    flow = Workflow("call", name="parent", default_config=TaskConfig.minimal()).add_exit_state("end")
    flow.register("call", SubWorkflow(child, then="end"))
    handle = await kernel.start(flow, run_id="p")
    await world.settle()
    await kernel.cancel("p:1/shop")
    for failing in (handle.result(), kernel.resume(flow, "p")):
        with pytest.raises(TaskError, match="was cancelled"):
            await failing

    why = await kernel.explain("p")
    assert why.reason is Standstill.CHILD_CANCELLED
    for part in ("resume() fails again", "fork() it before that step and resume() the fork", "child p:1/shop"):
        assert part in str(why)
    (seq,) = re.findall(r"after transition (\d+)", str(why))
    await kernel.fork("p", int(seq), "f")
    resumed = asyncio.ensure_future(kernel.resume(flow, "f"))
    await world.settle()
    await kernel.signal("f:1/shop", "paid")
    assert (await resumed).state == "end"


# errors


async def test_a_run_that_another_kernel_holds(kernel: Kernel, world: World, shop: Shop) -> None:
    """The error recommends the call that waits for the run's result."""
    shop.does, flow = "hang", shop.flow()
    await kernel.start(flow, run_id="the run")
    await world.settle()
    await kernel.signal("the run", "paid")
    await world.settle()
    other = await world.kernel()
    with pytest.raises(ConflictError) as held:
        await other.resume(shop.flow(), "the run")
    shop.does = "end"
    await kernel.close()
    assert (await follow(held.value, other, shop.flow())).state == "end"


async def test_a_lost_lease(kernel: Kernel, world: World, shop: Shop) -> None:
    """The error of a run that lost its lease recommends the call that continues it."""
    shop.does, flow = "hang", shop.flow()
    handle = await kernel.start(flow, run_id="the run")
    await world.settle()
    await kernel.signal("the run", "paid")
    await world.settle()
    assert shop.paid == [None]
    shop.does = "end"  # before the lease is lost, since this kernel may claim the run again at once
    hanging = world.faults(kernel).at_call("renew", None).hang()
    await world.clock.advance(31)
    with pytest.raises(ConflictError, match="lost its lease") as lost:
        await handle.result()
    hanging.release()
    following = asyncio.ensure_future(follow(lost.value, await world.kernel(), shop.flow()))
    while not following.done():  # the renewal that hung may have come after the end, so that the lease lasts
        await world.clock.advance(1)
    assert following.result().state == "end"


async def test_a_step_that_was_given_up(kernel: Kernel, world: World, shop: Shop) -> None:
    """The error of a step that killed too many processes recommends the call that tries it again."""
    shop.does = "hang"
    for _ in range(2):
        dying = await world.kernel()
        await dying.start(shop.flow(max_takeovers=1), run_id="the run")
        await world.settle()
        await dying.signal("the run", "paid")
        await world.settle()
        await world.crash(dying)
        await world.lapse()
    flow = shop.flow(max_takeovers=1)
    with pytest.raises(StepKilledError) as killed:
        await kernel.run(flow, run_id="the run")
    shop.does = "end"
    assert (await follow(killed.value, kernel, flow)).state == "end"


async def test_a_run_that_cannot_be_deleted_yet(kernel: Kernel, world: World, shop: Shop) -> None:
    """The error recommends the call after which the run can be deleted."""
    await kernel.start(shop.flow(), run_id="the run")
    await world.settle()
    with pytest.raises(ConflictError) as refused:
        await kernel.delete("the run")
    assert await follow(refused.value, kernel, shop.flow())
    await kernel.delete("the run")
    assert await world.find("the run") is None


async def test_a_run_that_only_deleting_helps(kernel: Kernel, world: World, shop: Shop) -> None:
    """The error of a corrupt run that cannot be cancelled recommends the call that deletes it."""
    await stopped(kernel, world, shop, RunStatus.PARKED)
    other = await world.kernel()
    corrupt = SerializationError("run the run is corrupt", run_id="the run")
    for call in ("load", "claim"):
        world.faults(other).at_call(call, None).fail(corrupt)
    with pytest.raises(SerializationError, match="so that only a process that executes it can cancel it") as refused:
        await other.cancel("the run")
    await follow(refused.value, other, shop.flow())
    assert await world.find("the run") is None
