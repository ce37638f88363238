"""The events of a run: which there are, in which order, and from which position they go on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from cano import (
    Expect,
    Kernel,
    RunEvent,
    RunInterruptedError,
    RunNotFoundError,
    RunStatus,
    TaskConfig,
    Workflow,
    current_step,
    task,
    wait_for,
)
from cano.testing import VirtualClock

from tests.plugins.durability.conftest import POLL
from tests.plugins.durability.test_streams import Now

if TYPE_CHECKING:
    from tests.plugins.durability.conftest import World


def short(events: list[RunEvent]) -> list[tuple[str, int, str]]:
    """Kind, position and state of each."""
    return [(event.kind, event.position, event.state) for event in events]


async def test_events_of_a_run_in_another_process(kernel: Kernel, world: World) -> None:
    """Transitions, waits, retries, progress and the end arrive in order, and go on after any position."""
    gate, failed = asyncio.Event(), asyncio.Event()

    async def asks(store: Any) -> Any:
        if current_step().attempt == 1:
            raise ValueError("again")
        current_step().progress(1, 2, "half")
        failed.set()
        await gate.wait()
        return wait_for("go", then="b")

    async def fails(store: Any) -> str:
        raise ValueError("broken")

    flow: Workflow[str] = Workflow("a", name="followed").add_exit_state("end")
    flow.register("a", task(asks), config=TaskConfig(retry=Now())).register(
        "b", task(fails), config=TaskConfig.minimal()
    )
    handle = await kernel.start(flow, {}, run_id="r")
    await failed.wait()
    here, there = handle.events(), (await (await world.kernel()).attach("r")).events()
    assert short([await anext(here) for _ in range(3)]) == [
        ("transition", 0, "a"), ("retry", 0, "a"), ("progress", 0, "a"),
    ]  # fmt: skip
    assert short([await anext(there) for _ in range(2)]) == [("transition", 0, "a"), ("retry", 0, "a")]
    gate.set()
    waits = [await anext(here), await anext(here)]
    assert short(waits) == [("transition", 2, "b"), ("wait", 2, "b")]
    assert waits[1].wait is not None
    assert waits[1].wait.signal == "go"
    await kernel.signal("r", "go")
    rest = [event async for event in here]
    assert short(rest) == [("end", 3, "b")]
    assert rest[0].error is not None
    assert "broken" in rest[0].error
    assert short([event async for event in handle.events(after=0)]) == [("transition", 2, "b"), ("end", 3, "b")]
    assert [event async for event in handle.events(after=3)] == []
    with pytest.raises(RunNotFoundError):
        await kernel.attach("missing")


async def test_a_late_run_is_an_event(world: World) -> None:
    """That a visit or a run is late is an event, once for each, here and in another process, and for a late reader."""
    gate = asyncio.Event()

    async def waits(store: Any) -> str:
        await gate.wait()
        return "end"

    flow: Workflow[str] = Workflow("a", name="slow", expect=Expect(within="1m", step_within={"a": 20}))
    flow.register("a", task(waits)).add_exit_state("end")
    kernel, other = await world.kernel(), await world.kernel()
    handle = await kernel.start(flow, {}, run_id="r")
    readers = [handle.events(), (await other.attach("r")).events()]
    assert [(await anext(reader)).kind for reader in readers] == ["transition", "transition"]
    for seconds, step in ((21, True), (40, False)):
        waiting = [asyncio.ensure_future(anext(reader)) for reader in readers]
        await world.clock.advance(seconds)
        for event in await asyncio.gather(*waiting):
            assert (event.kind, event.position, event.state) == ("late", 0, "a")
            assert event.late is not None
            assert (event.late.step, event.late.at) == (step, event.at)
    again = [event async for event in (await other.attach("r")).events(follow=False)]
    assert short(again) == [("transition", 0, "a"), ("late", 0, "a"), ("late", 0, "a")]
    waiting = [asyncio.ensure_future(anext(reader)) for reader in readers]
    gate.set()
    await world.clock.advance(POLL)
    assert [event.kind for event in await asyncio.gather(*waiting)] == ["transition", "transition"]


async def test_a_run_that_is_executed_here_needs_no_time(kernel: Kernel, world: World) -> None:
    """Each commit wakes a reader, though no time passes; and looks at a step that lasts read nothing of the store."""
    gates = {"a": asyncio.Event(), "b": asyncio.Event()}

    async def waits(store: Any) -> str:
        current_step().progress(1, 2)
        await gates[str(current_step().state)].wait()
        return "b" if current_step().state == "a" else "end"

    flow: Workflow[str] = Workflow("a", name="followed").add_exit_state("end")
    for state in ("a", "b"):
        flow.register(state, task(waits), config=TaskConfig.minimal())
    handle = await kernel.start(flow, {}, run_id="r")
    await world.settle()  # until the step has begun
    events = handle.events()
    assert short([await anext(events), await anext(events)]) == [("transition", 0, "a"), ("progress", 0, "a")]
    waiting = asyncio.ensure_future(anext(events))
    await world.settle()
    calls = world.faults(kernel).calls
    before = calls["load"], calls["history_page"]
    await world.clock.advance(2 * POLL)
    assert (calls["load"], calls["history_page"]) == before
    gates["a"].set()
    assert short([await waiting]) == [("transition", 2, "b")]
    gates["b"].set()
    rest = [event async for event in events if event.kind != "progress"]  # looks find that, if there is time
    assert short(rest) == [("transition", 4, "end"), ("end", 5, "end")]
    assert kernel.keeper is not None
    assert kernel.keeper.stored.followed == {}  # type: ignore[attr-defined]


async def test_looks_at_other_processes_become_rarer(kernel: Kernel, world: World) -> None:
    """While nothing happens to a run in another process, it is read as often as the kernel polls, and no more."""
    gate = asyncio.Event()

    async def waits(store: Any) -> str:
        await gate.wait()
        return "end"

    flow: Workflow[str] = Workflow("a", name="followed").register("a", task(waits)).add_exit_state("end")
    await kernel.start(flow, {}, run_id="r")
    other = await world.kernel()
    events = (await other.attach("r")).events()
    assert (await anext(events)).kind == "transition"
    waiting = asyncio.ensure_future(anext(events))
    before = world.faults(other).calls["load"]
    await world.clock.advance(20 * POLL)
    assert world.faults(other).calls["load"] - before <= 23
    gate.set()
    await world.clock.advance(POLL)
    assert (await waiting).kind == "transition"
    assert [event.kind async for event in events] == ["end"]


async def test_a_run_that_no_store_keeps_has_events() -> None:
    """Its looks find what they find, and always its end; once a store keeps it, because it waits, all of them."""

    async def waits(store: Any) -> str:
        current_step().progress(1, 2, "half")
        await gate.wait()
        return "b"

    async def asks(store: Any) -> Any:
        return wait_for("go", then="c")

    async def fails(store: Any) -> str:
        raise ValueError("broken")

    flow: Workflow[str] = Workflow("a", name="followed").register("a", task(waits)).add_exit_state("end")
    brief: Workflow[str] = Workflow("a", name="brief").register("a", task(waits)).add_exit_state("b")
    flow.register("b", task(asks)).register("c", task(fails), config=TaskConfig.minimal())
    async with Kernel(clock=VirtualClock()) as kernel:
        for each in (brief, flow):
            gate = asyncio.Event()
            handle = await kernel.start(each)
            events = handle.events()
            assert short([await anext(events), await anext(events)]) == [("transition", 0, "a"), ("progress", 0, "a")]
            assert short([event async for event in handle.events(after=0, follow=False)]) == [("progress", 0, "a")]
            gate.set()
            if each is brief:
                rest = [event async for event in events]
                assert short(rest) == [("transition", 2, "b"), ("end", 3, "b")]
                assert rest[-1].status is RunStatus.SUCCEEDED
                assert rest[-1].at == rest[-2].at == kernel.clock.time()
                assert [event async for event in handle.events(after=2)] == rest[1:]
            else:
                while (event := await anext(events)).kind != "wait":
                    pass
                assert (event.position, event.state) == (4, "c")
                await kernel.signal(handle.run_id, "go")
                assert short([event async for event in events]) == [("end", 5, "c")]


async def test_a_kernel_that_closes_ends_the_events_of_its_runs() -> None:
    """Of a run that no store keeps, and that is interrupted."""

    async def waits(store: Any) -> str:
        await asyncio.Event().wait()
        return "end"

    flow: Workflow[str] = Workflow("a", name="followed").register("a", task(waits)).add_exit_state("end")
    async with Kernel(grace=0) as kernel:
        events = (await kernel.start(flow)).events()
        await anext(events)
    with pytest.raises(RunInterruptedError, match="the kernel closed before run"):
        await anext(events)


async def test_an_interrupted_run_that_no_store_keeps_has_no_more_events() -> None:
    """Its error is raised, also while the kernel is open: nothing continues it."""
    began = asyncio.Event()

    async def waits(store: Any) -> str:
        began.set()
        await asyncio.Event().wait()
        return "end"

    flow: Workflow[str] = Workflow("a", name="followed").register("a", task(waits)).add_exit_state("end")
    async with Kernel(grace=0) as kernel:
        handle = await kernel.start(flow)
        await began.wait()
        events = handle.events()
        await anext(events)
        kernel.active[handle.run_id].stop(RunStatus.INTERRUPTED)
        with pytest.raises(RunInterruptedError):
            await anext(events)
