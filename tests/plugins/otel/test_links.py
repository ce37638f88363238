"""Resumed runs: each segment is its own trace, linked to the earlier segment through the store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cano import (
    Kernel,
    KeyValueStore,
    Run,
    RunInterruptedError,
    SubWorkflow,
    SystemClock,
    TaskError,
    Workflow,
    hookimpl,
    wait_for,
)
from cano_otel.links import TRACEPARENT, previous_segment
from opentelemetry import trace

from tests.plugins.otel.conftest import Seen

MakeKernel = Callable[..., Kernel]


@pytest.fixture
def durable(make_kernel: MakeKernel, tmp_path: Path) -> Callable[..., Kernel]:
    """Makes a kernel on a store that outlives it."""

    def make(*plugins: Any, **options: Any) -> Kernel:
        store = f"sqlite:///{tmp_path}/runs.db"
        return make_kernel("sqlite", "msgspec", *plugins, store=store, clock=SystemClock(), **options)

    return make


class Parked:
    """Sets an event when a run is parked."""

    def __init__(self) -> None:
        self.event = asyncio.Event()

    @hookimpl
    def cano_run_parked(self, run: Run) -> None:
        self.event.set()


def waiting() -> Workflow[str]:
    flow = Workflow("ask", name="ask").add_exit_state("done")

    @flow.on("ask")
    async def ask(store: KeyValueStore) -> Any:
        return wait_for("answer", then="heard")

    @flow.on("heard")
    async def heard(store: KeyValueStore) -> str:
        assert list(store.keys()) == []
        return "done"

    return flow


def links(span: Any) -> list[tuple[Any, Any]]:
    return [(link.attributes["cano.link"], link.context.span_id) for link in span.links]


async def test_parked_run_in_another_kernel(durable: Callable[..., Kernel], seen: Seen) -> None:
    """The segment after a wait is a root span. It links to the segment before and to the sender of the signal."""
    flow = waiting()
    parked = Parked()
    async with durable(parked) as kernel:
        await kernel.start(flow, run_id="r")
        await parked.event.wait()
    async with durable() as kernel:
        with seen.tracers.get_tracer("mine").start_as_current_span("signal"):
            await kernel.signal("r", "answer")
            (handle,) = await kernel.recover(flow)
            await handle.result()

    first, second = seen.named("RUN ask")
    assert ((first.attributes or {})["cano.run.status"], (first.attributes or {})["cano.wait.signal"]) == (
        "parked",
        "answer",
    )
    assert second.parent is None
    assert first.context is not None
    assert second.context is not None
    assert second.context.trace_id != first.context.trace_id
    signal = seen.one("signal")
    assert signal.context is not None
    assert links(second) == [("earlier", first.context.span_id), ("caller", signal.context.span_id)]
    assert [span.name for span in seen.spans if span.name.startswith("step")] == ["step ask", "step heard"]


async def test_a_segment_links_to_the_one_it_resumes(durable: Callable[..., Kernel], seen: Seen) -> None:
    """The link leads to the segment that made the last commit, past segments that committed nothing."""
    entered, never = asyncio.Event(), asyncio.Event()
    flow = Workflow("one", name="chain").add_exit_state("done")
    begun: list[str] = []

    async def step(store: KeyValueStore) -> str:
        begun.append(store["at"])
        if len(begun) in (2, 3, 5):
            entered.set()
            await never.wait()
        following = {"one": "two", "two": "three", "three": "done"}[store["at"]]
        store["at"] = following
        return following

    for state in ("one", "two", "three"):
        flow.register(state, step)
    for round_ in range(4):
        entered.clear()
        async with durable(grace=0) as kernel:
            if round_ == 0:
                handle = await kernel.start(flow, {"at": "one"}, run_id="r")
            else:
                (handle,) = await kernel.recover(flow)
            if round_ < 3:
                await entered.wait()
            else:
                assert (await handle.result()).state == "done"
        if round_ < 3:
            with pytest.raises(RunInterruptedError):
                await handle.result()

    segments = seen.named("RUN chain")
    ids = [span.context.span_id for span in segments if span.context is not None]
    assert [links(span) for span in segments] == [
        [],
        [("earlier", ids[0])],
        [("earlier", ids[0])],
        [("earlier", ids[2])],
    ]


async def test_failed_run_that_is_resumed(durable: Callable[..., Kernel], seen: Seen) -> None:
    """A failed run that is resumed links to the segment that failed."""
    broken = [True]
    flow = Workflow("one", name="mend").add_exit_state("done")

    @flow.on("one")
    async def one(store: KeyValueStore) -> str:
        return "two"

    @flow.on("two")
    async def two(store: KeyValueStore) -> str:
        if broken:
            raise ValueError
        return "done"

    async with durable() as kernel:
        with pytest.raises(TaskError):
            await kernel.run(flow, run_id="r")
        broken.clear()
        await kernel.resume(flow, "r")

    first, second = seen.named("RUN mend")
    assert first.context is not None
    assert links(second) == [("earlier", first.context.span_id)]


async def test_child_of_a_resumed_run(durable: Callable[..., Kernel], seen: Seen) -> None:
    """A child run resumed with its parent is below the parent's new segment and links to its own first segment."""
    child, parent = waiting(), Workflow("sub", name="parent").add_exit_state("end")
    parent.register("sub", SubWorkflow(child, then="end"))
    parked = Parked()
    async with durable(parked, grace=0) as kernel:
        await kernel.start(parent, run_id="r")
        await parked.event.wait()
    async with durable() as kernel:
        (inner,) = await kernel.runs(workflow="ask")
        await kernel.signal(inner.run_id, "answer")
        await kernel.resume(parent, "r")

    outer = seen.named("RUN parent")
    first, second = seen.named("RUN ask")
    assert outer[0].context is not None
    assert first.context is not None
    assert ("earlier", first.context.span_id) in links(second)
    assert len(outer) == 2


def test_unreadable_traceparent() -> None:
    """A traceparent that cannot be parsed counts as missing."""
    good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    found = previous_segment({TRACEPARENT: good})
    assert found is not None
    assert (found.is_remote, trace.format_span_id(found.span_id)) == (True, "b7ad6b7169203331")
    for bad in ("", "00-zz", 7, None, good.replace("00-", "ff-")):
        assert previous_segment({TRACEPARENT: bad}) is None  # type: ignore[dict-item]  # a store may hold anything
    assert previous_segment({}) is None
