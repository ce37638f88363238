"""`kernel.get` and `kernel.attach`: looking at a run, and following it, from a kernel that does not execute it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from cano import (
    Kernel,
    RunCancelledError,
    RunInterruptedError,
    RunNotFoundError,
    RunResult,
    RunStatus,
    SerializationError,
    SubWorkflow,
    TaskError,
    Workflow,
    wait_for,
)

if TYPE_CHECKING:
    from tests.plugins.durability.conftest import World


@dataclass
class Order:
    """A class that a process knows only with the workflow."""

    number: int


class Shop:
    """A workflow that waits, and then fails or ends.

    Attributes:
        broken: whether it fails.
        gate: lets the first step end.
        begun: whether that step has begun.
    """

    def __init__(self) -> None:
        self.broken = False
        self.gate = asyncio.Event()
        self.begun = asyncio.Event()
        self.flow: Workflow[str] = Workflow("pack", name="shop", version="3", types=[Order]).add_exit_state("done")
        self.flow.register("pack", self.pack).register("ship", self.ship)

    async def pack(self, store: Any) -> Any:
        """Write, and wait."""
        self.begun.set()
        await self.gate.wait()
        store["count"] = 1
        return wait_for("go", then="ship")

    async def ship(self, store: Any) -> str:
        """End, perhaps."""
        if self.broken:
            raise ValueError("broken")
        return "done"


@pytest.fixture
def shop() -> Shop:
    """A workflow."""
    return Shop()


async def test_a_view_at_every_stage(kernel: Kernel, world: World, shop: Shop) -> None:
    """Another kernel sees status, state, data, wait, signals, times, holder and error, and executes nothing."""
    other = await world.kernel()
    handle = await kernel.start(shop.flow, {"count": 0}, run_id="r", timeout=1000)
    await shop.begun.wait()
    held = await other.get("r")
    assert (held.workflow, held.version, held.status, held.state, held.seq) == (
        "shop", "3", RunStatus.RUNNING, "pack", 0,
    )  # fmt: skip
    assert (held.data, held.unreadable, held.error, held.wait, held.children) == ({"count": 0}, {}, None, None, ())
    assert held.holder is not None
    assert held.expires is not None
    assert held.expires > held.as_of
    assert held.deadline == held.created + 1000
    await kernel.signal("r", "later", 7)
    shop.gate.set()
    await world.settle()

    parked = await other.get("r")
    assert (parked.status, parked.state, parked.seq, parked.signals) == (RunStatus.PARKED, "ship", 1, ("later",))
    assert (parked.wait and parked.wait.signal, parked.wait_token) == ("go", "r:1")
    assert (parked.holder, parked.data) == (None, {"count": 1})

    shop.broken = True
    await other.signal("r", "go")
    with pytest.raises(TaskError):
        await handle.result()
    failed = await other.get("r")
    assert (failed.status, failed.state, failed.holder, failed.wait) == (RunStatus.FAILED, "ship", None, None)
    assert isinstance(failed.error, TaskError)
    assert 'in ship\n    raise ValueError("broken")' in str(failed.error.traceback)
    assert other.active == {}
    with pytest.raises(RunNotFoundError, match="no run 'nothing'"):
        await other.get("nothing")
    with pytest.raises(RunNotFoundError):
        await other.attach("nothing")


async def test_what_cannot_be_read_has_a_reason(kernel: Kernel, world: World, shop: Shop) -> None:
    """A process without the workflow reads the other values. It gets no result that lacks some."""
    await kernel.start(shop.flow, {"order": Order(7), "count": 0}, run_id="r")
    await shop.begun.wait()
    shop.gate.set()
    await world.settle()
    await kernel.signal("r", "go")
    await world.settle()

    assert (await kernel.get("r")).data == {"order": Order(7), "count": 1}
    other = await world.kernel()
    view = await other.get("r")
    assert view.data == {"count": 1}
    assert "Order" in view.unreadable["order"]
    with pytest.raises(SerializationError):
        await (await other.attach("r")).result()


async def test_children_and_origin(kernel: Kernel, world: World) -> None:
    """A view names the parent, the children, and the run that it was forked from."""

    async def only(store: Any) -> str:
        return "end"

    part: Workflow[str] = Workflow("only", name="part").register("only", only).add_exit_state("end")
    whole: Workflow[str] = Workflow("all", name="whole").add_exit_state("end")
    whole.register("all", SubWorkflow(part, then="end"))
    await kernel.run(whole, {}, run_id="r")
    await kernel.fork("r", 0, "fork")
    other = await world.kernel()
    (child,) = (await other.get("r")).children

    assert (await other.get(child)).parent == "r"
    assert (await other.get("fork")).origin == ("r", 0)


@pytest.mark.parametrize("broken", [False, True])
async def test_an_attached_run(kernel: Kernel, world: World, shop: Shop, broken: bool) -> None:
    """Its result comes when another kernel has ended the run; a signal goes there, and nothing is executed here."""
    await kernel.start(shop.flow, {"count": 0}, run_id="r")
    other = await world.kernel()
    attached = await other.attach("r")
    result = asyncio.ensure_future(attached.result())
    shop.broken = broken
    shop.gate.set()
    await world.settle()
    assert not result.done()
    assert await attached.signal("go")
    await world.clock.advance(3)

    assert other.active == {}
    assert result.done()
    if broken:
        with pytest.raises(TaskError, match="broken"):
            await result
    else:
        assert await result == RunResult("r", "done", {"count": 1}, 2)
    assert await (await kernel.attach("r")).cancel() is False


async def test_an_attached_run_of_a_dead_process(kernel: Kernel, world: World, shop: Shop) -> None:
    """An attached run is not taken over: its result waits until a worker has done that."""
    await kernel.start(shop.flow, {"count": 0}, run_id="r")
    await shop.begun.wait()
    other = await world.kernel()
    result = asyncio.ensure_future((await other.attach("r")).result())
    await world.crash(kernel)
    await world.lapse()
    assert (await other.get("r")).status is RunStatus.INTERRUPTED
    assert not result.done()
    await (await world.kernel()).cancel("r")
    await world.clock.advance(3)
    with pytest.raises(RunCancelledError):
        await result


async def test_an_attached_run_in_a_kernel_that_closes(world: World, shop: Shop) -> None:
    """The wait ends with its kernel; the run goes on elsewhere."""
    kernel, other = await world.kernel(), await world.kernel()
    await kernel.start(shop.flow, {"count": 0}, run_id="r")
    result = asyncio.ensure_future((await other.attach("r")).result())
    await world.settle()
    await world.close(other)
    with pytest.raises(RunInterruptedError, match="ask another kernel"):
        await result
    assert "r" in kernel.active


async def test_an_attached_run_that_the_same_kernel_executes(kernel: Kernel, world: World, shop: Shop) -> None:
    """The result is there as soon as it ends."""
    await kernel.start(shop.flow, {"count": 0}, run_id="r")
    result = asyncio.ensure_future((await kernel.attach("r")).result())
    shop.gate.set()
    await world.settle()
    await kernel.signal("r", "go")
    await world.settle()
    assert await result == RunResult("r", "done", {"count": 1}, 2)
