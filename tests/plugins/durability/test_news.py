"""A store that tells of what others do: nobody waits for the next look at it. No time passes in these tests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from cano import Kernel, RunCancelledError, RunStatus, Signal, StoreUnavailableError, Workflow, current_step, wait_for
from cano.testing import Faults, FaultyStore

if TYPE_CHECKING:
    from tests.plugins.durability.conftest import World

R = TypeVar("R")
TOLD = ("put_signal", "put_signal_within", "commit", "release", "create", "delete")


class Telling(FaultyStore):
    """A store that tells all others of its class in this test what it did. More than it must, which does no harm."""

    everybody: list[Telling]

    def __init__(self, backend: Any, faults: Faults) -> None:
        super().__init__(backend, faults)
        self.capabilities = self.capabilities._replace(notify=True)
        self.tell: Callable[[str | None], None] = lambda run_id: None
        self.everybody.append(self)

    def watch(self, tell: Callable[[str | None], None]) -> None:
        """From now on it is told."""
        self.tell = tell

    async def _call(self, name: str, call: Callable[..., Awaitable[R]], *arguments: Any) -> R:
        result = await super()._call(name, call, *arguments)
        for other in self.everybody:
            if other is not self and name in TOLD:
                other.tell(getattr(arguments[0], "run_id", arguments[0]))
        return result


@pytest.fixture(autouse=True)
def everybody(monkeypatch: pytest.MonkeyPatch) -> list[Telling]:
    """Nobody as yet."""
    stores: list[Telling] = []
    monkeypatch.setattr(Telling, "everybody", stores, raising=False)
    return stores


@pytest.fixture
async def one(world: World) -> Kernel:
    """A kernel that is told."""
    return await world.kernel(kind=Telling)


@pytest.fixture
async def two(world: World) -> Kernel:
    """Another one."""
    return await world.kernel(kind=Telling)


def asking() -> Workflow[str]:
    """A run that waits for an answer, and ends with it."""
    flow = Workflow("ask", name="asking").add_exit_state("end")
    flow.register("ask", lambda store: wait_for("answer", then="note"))

    async def note(store: Any) -> str:
        store["answer"] = current_step().payload
        return "end"

    return flow.register("note", note)


class Holding:
    """A run whose only step is held up."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()

    async def hold(self, store: Any) -> str:
        """Wait."""
        self.begun.set()
        await self.gate.wait()
        return "end"

    def flow(self) -> Workflow[str]:
        """Its workflow."""
        return Workflow("hold", name="holding").register("hold", self.hold).add_exit_state("end")


async def test_a_signal_wakes_at_once(world: World, one: Kernel, two: Kernel) -> None:
    """A signal that another kernel sends lets the run go on where it was parked."""
    handle = await one.start(asking(), run_id="r")
    await world.settle()
    assert (await world.look("r")).status is RunStatus.PARKED
    await two.signal("r", "answer", 42)
    await world.settle()

    assert (await handle.result()).data == {"answer": 42}


async def test_a_result_is_told_at_once(world: World, one: Kernel, two: Kernel) -> None:
    """Who waits for a run that another kernel drives hears of its end."""
    holding = Holding()
    await one.start(holding.flow(), run_id="r")
    await holding.begun.wait()
    waiting = asyncio.ensure_future(two.run(holding.flow(), run_id="r"))
    await world.settle()
    assert not waiting.done()
    holding.gate.set()
    await world.settle()

    assert (await waiting).state == "end"


async def test_a_cancel_is_heard_at_once(world: World, one: Kernel, two: Kernel) -> None:
    """A run is cancelled where it is driven as soon as somebody asks for it, wherever."""
    holding = Holding()
    handle = await one.start(holding.flow(), run_id="r")
    await holding.begun.wait()
    await two.cancel("r")
    await world.settle()

    with pytest.raises(RunCancelledError):
        await handle.result()
    assert (await world.look("r")).status is RunStatus.CANCELLED


async def test_a_run_that_is_let_go_is_taken_at_once(world: World, one: Kernel, two: Kernel) -> None:
    """A worker that watches a workflow takes over what another one gives back when it closes."""
    holding = Holding()
    await one.start(holding.flow(), run_id="r")
    await holding.begun.wait()
    await two.recover(holding.flow())
    holding.begun.clear()
    closing = asyncio.ensure_future(world.close(one))
    await holding.begun.wait()
    holding.gate.set()
    await closing
    await world.settle()

    assert (await world.look("r")).status is RunStatus.SUCCEEDED


async def test_lost_news_is_looked_for(world: World, everybody: list[Telling], one: Kernel) -> None:
    """After news may have been lost everything is looked at: results, cancels and runs to take."""
    silent = await world.kernel()
    holding = Holding()
    held = await one.start(holding.flow(), run_id="held")
    await holding.begun.wait()
    parked = await one.start(asking(), run_id="parked")
    await silent.start(asking(), run_id="elsewhere")
    waiting = asyncio.ensure_future(one.run(asking(), run_id="elsewhere"))
    await world.settle()
    await silent.cancel("held")
    await silent.signal("parked", "answer", 1)
    await silent.signal("elsewhere", "answer", 2)
    await world.settle()
    assert held.status().status is RunStatus.RUNNING
    assert not waiting.done()
    everybody[0].tell(None)
    await world.settle()

    with pytest.raises(RunCancelledError):
        await held.result()
    assert (await parked.result()).data == {"answer": 1}
    assert (await waiting).data == {"answer": 2}


async def test_news_of_a_store_out_of_reach(
    world: World, everybody: list[Telling], one: Kernel, two: Kernel, caplog: pytest.LogCaptureFixture
) -> None:
    """News that cannot be followed up is left to the next look, with a warning."""
    handle = await one.start(asking(), run_id="r")
    await world.settle()
    world.faults(one).at_call("ready").fail(StoreUnavailableError("gone"))
    await two.signal("r", "answer", 42)
    await world.settle()
    assert handle.status().status is RunStatus.PARKED
    assert "the store failed: StoreUnavailableError('gone')" in caplog.text
    await world.clock.advance(1)

    assert (await handle.result()).data == {"answer": 42}


async def test_news_after_closing(world: World, everybody: list[Telling], one: Kernel) -> None:
    """A closed kernel does nothing about news."""
    await world.close(one)
    everybody[0].tell("r")
    everybody[0].tell(None)
    await world.settle()


async def test_recover_returns_what_is_notified_meanwhile(
    world: World, everybody: list[Telling], one: Kernel, two: Kernel
) -> None:
    """A run that is ready is in what `recover` returns, also if a notification comes while that takes runs over."""
    for run_id in ("r", "s"):
        await two.start(asking(), run_id=run_id)
    await world.settle()
    await world.crash(two)
    for run_id in ("r", "s"):
        await world.store(one).backend.put_signal(run_id, Signal("1", "answer"))
    listing = world.faults(one).at_call("runs").hang()
    recovering = asyncio.ensure_future(one.recover(asking()))
    await listing.reached()
    everybody[0].tell(None)
    await world.settle()
    listing.release()

    assert sorted(run.run_id for run in await recovering) == ["r", "s"]
