"""Errors along `on_exhausted` chains do not keep each other and the local variables of their tasks."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from cano import JoinConfig, JoinStrategy, Kernel, TaskConfig, Workflow, current_step
from cano_retry import Fixed


class Page:
    """A large local variable of a task."""


async def run_without_collector(kernel: Kernel, flow: Workflow[str]) -> None:
    """What only the cycle collector frees may pile up for long."""
    gc.disable()
    try:
        await kernel.run(flow, {})
    finally:
        gc.enable()


@pytest.mark.parametrize("config", [{"retry": "none"}, {"retry": Fixed(2, 0)}, {"timeout": 5}], ids=str)
async def test_a_chain_of_failures(config: dict[str, Any]) -> None:
    """A task sees the error that led to it, and that one's cause; no task's locals live on."""
    pages: list[weakref.ref[Page]] = []
    alive: list[int] = []
    causes: set[Any] = set()

    async def fail(store: Any) -> str:
        page = Page()
        led = current_step().error
        causes.add(None if led is None else type(led.__cause__))
        alive.append(sum(ref() is not None for ref in pages))
        pages.append(weakref.ref(page))
        if len(alive) >= 30:
            return "END"
        raise ConnectionError(len(alive))

    flow = Workflow("A", name="chain").add_exit_state("END")
    for state, other in ("AB", "BA"):
        flow.register(state, fail, config=TaskConfig(on_exhausted=other, **config))
    async with Kernel(discover=False) as kernel:
        await run_without_collector(kernel, flow)
    assert len(alive) == 30
    assert max(alive) <= 3  # those of the attempts of one step
    assert causes == {None, ConnectionError}


async def test_a_chain_of_failed_splits() -> None:
    """The errors of branches as well."""
    pages: list[weakref.ref[Page]] = []
    alive: list[int] = []

    async def fail(store: Any) -> None:
        page = Page()
        alive.append(sum(ref() is not None for ref in pages))
        pages.append(weakref.ref(page))
        if len(alive) < 30:
            raise ConnectionError

    flow = Workflow("A", name="chain").add_exit_state("END")
    for state, other in ("AB", "BA"):
        config = TaskConfig(retry="none", on_exhausted=other)
        flow.register_split(state, [fail], JoinConfig(JoinStrategy.all(), "END"), config=config)
    async with Kernel(discover=False) as kernel:
        await run_without_collector(kernel, flow)
    assert len(alive) == 30
    assert max(alive) <= 3
