"""The events of a run: which there are, in which order, and from which position they go on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from cano import Kernel, RunEvent, RunNotFoundError, TaskConfig, Workflow, current_step, task, wait_for

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
