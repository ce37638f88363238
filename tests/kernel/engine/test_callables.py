"""Anything that can be called with the store may be a task: mocks, and plain wrappers of async functions."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any
from unittest.mock import AsyncMock, MagicMock, Mock

import pytest
from cano import FunctionTask, JoinConfig, JoinStrategy, Kernel, Workflow, current_step


async def work(store: Any) -> str:
    """An async task."""
    assert current_step().state == "A"
    store["done"] = True
    return "B"


def wrapped(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """What a decorator makes that knows nothing of asyncio and of functools.wraps."""

    def wrapper(store: Any) -> Any:
        return function(store)

    return wrapper


CALLABLES: dict[str, Callable[[], Any]] = {
    "AsyncMock": lambda: AsyncMock(side_effect=work),
    "AsyncMock of a function": lambda: AsyncMock(spec=work, side_effect=work),
    "Mock": lambda: Mock(side_effect=work),
    "MagicMock": lambda: MagicMock(side_effect=work),
    "wrapper": lambda: wrapped(work),
    "wrapper of a wrapper": lambda: functools.wraps(work)(wrapped(work)),
    "partial of a wrapper": lambda: functools.partial(wrapped(work)),
}


@pytest.mark.parametrize("url", ["memory://", "memory://?strict=1"])
@pytest.mark.parametrize("name", CALLABLES)
async def test_as_a_task(name: str, url: str) -> None:
    """In memory and in a store, which also reads its annotations and keys."""
    flow = Workflow("A", name="one").register("A", CALLABLES[name]()).add_exit_state("B")
    async with Kernel(store=url) as kernel:
        result = await kernel.run(flow, {}, run_id="x")
    assert result.state == "B"
    assert result.data == {"done": True}


@pytest.mark.parametrize("name", CALLABLES)
async def test_as_a_branch(name: str) -> None:
    """The same."""
    flow = Workflow("A", name="one").add_exit_state("B")
    flow.register_split("A", [CALLABLES[name]()], JoinConfig(JoinStrategy.all(), "B"))
    async with Kernel(store="memory://?strict=1") as kernel:
        result = await kernel.run(flow, {}, run_id="x")
    assert result.data == {"done": True}


async def test_called_without_a_workflow() -> None:
    """`FunctionTask.run` awaits it as well."""

    async def end(store: Any) -> str:
        return "B"

    assert await FunctionTask(wrapped(end)).run({}) == "B"
