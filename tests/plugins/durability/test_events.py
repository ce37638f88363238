"""The events of a run: which there are, in which order, and from which position they go on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from cano import Expect, Kernel, RunEvent, RunNotFoundError, TaskConfig, Workflow, current_step, task, wait_for

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
