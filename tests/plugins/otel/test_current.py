"""The parents of spans, and which span is current when."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

import pytest
from cano import (
    ConcurrentWorkflow,
    JoinConfig,
    JoinStrategy,
    Kernel,
    KeyValueStore,
    SubWorkflow,
    TaskConfig,
    TaskError,
    Workflow,
)
from cano_otel.current import detach
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.trace import SpanKind, StatusCode

from tests.plugins.otel.conftest import Seen

MakeKernel = Callable[..., Kernel]


def one_step(task: Any, name: str = "one", **config: Any) -> Workflow[str]:
    flow = Workflow("a", name=name, version="7").add_exit_state("done")
    return flow.register("a", task, config=TaskConfig(**config))


async def done(store: Any) -> str:
    return "done"


def current_name() -> str | None:
    return getattr(trace.get_current_span(), "name", None)


async def test_branches_and_children_are_below_their_step(make_kernel: MakeKernel, seen: Seen) -> None:
    """Branches are children of the split's attempt, a sub-workflow's run of its step's; user's spans of theirs."""
    tracer = seen.tracers.get_tracer("mine")
    child = one_step(done, "child")
    flow = Workflow("split", name="parent").add_exit_state("end")

    async def left(store: KeyValueStore) -> int:
        with tracer.start_as_current_span("mine"):
            await asyncio.gather(*(asyncio.to_thread(inner) for _ in range(2)))
        return 1

    def inner() -> None:
        with tracer.start_as_current_span("inner"):
            pass

    def right(store: KeyValueStore) -> int:
        return 2

    flow.register_split("split", [left, right], JoinConfig(JoinStrategy.all(), "sub"))
    flow.register("sub", SubWorkflow(child, then="end"))
    async with make_kernel() as kernel:
        result = await kernel.run(flow)

    spans = {span.context.span_id: span for span in seen.spans if span.context is not None}

    def path(span: Any) -> list[str]:
        return [*(path(spans[span.parent.span_id]) if span.parent else []), span.name]

    above = ["RUN parent", "step split", "attempt"]
    assert [path(span) for span in seen.named("inner")] == [[*above, "branch left", "attempt", "mine", "inner"]] * 2
    assert path(seen.one("branch right")) == [*above, "branch right"]
    assert path(seen.one("step a")) == ["RUN parent", "step sub", "attempt", "RUN child", "step a"]
    assert len({span.context.trace_id for span in seen.spans if span.context is not None}) == 1
    assert (seen.one("branch right").attributes or {})["cano.step.branch"] == "1:right"
    assert (seen.one("RUN child").attributes or {})["cano.run.parent_id"] == result.run_id
    assert seen.one("RUN child").kind is SpanKind.INTERNAL


async def test_runs_at_once_are_below_what_started_them(make_kernel: MakeKernel, seen: Seen) -> None:
    """Of runs that are gathered, or are a batch, each is a child of the span around them, and of no other run."""
    flow = one_step(done)
    async with make_kernel() as kernel:
        with seen.tracers.get_tracer("mine").start_as_current_span("request") as request:
            await asyncio.gather(*(kernel.run(flow) for _ in range(3)))
            await ConcurrentWorkflow(flow, kernel=kernel).execute_concurrent([{}, {}])

    runs = [span for span in seen.spans if span.name.startswith("RUN ")]
    assert len(runs) == 5
    assert {span.parent.span_id for span in runs if span.parent is not None} == {request.get_span_context().span_id}
    assert all(span.parent is not None for span in runs)


async def test_losers_of_a_race_are_no_errors(make_kernel: MakeKernel, seen: Seen) -> None:
    """A branch that is cancelled because another was faster is marked as cancelled, and not as an error."""
    never = asyncio.Event()

    async def slow(store: Any) -> None:
        await never.wait()

    async def fast(store: Any) -> None:
        await asyncio.sleep(0)

    flow = Workflow("race", name="race").add_exit_state("end")
    flow.register_split("race", [slow, fast], JoinConfig(JoinStrategy.any(), "end"))
    async with make_kernel() as kernel:
        await kernel.run(flow)

    loser = seen.one("branch slow")
    assert (loser.attributes or {})["cicd.pipeline.task.run.result"] == "cancellation"
    assert {span.status.status_code for span in seen.spans} == {StatusCode.UNSET}


async def test_nothing_is_current_after(make_kernel: MakeKernel, seen: Seen, caplog: pytest.LogCaptureFixture) -> None:
    """Whether a run succeeds, fails or is cancelled: the caller's span is current again, and nothing is logged."""
    entered, never = asyncio.Event(), asyncio.Event()

    async def task(store: KeyValueStore) -> str:
        if store["how"] == "fail":
            raise ValueError
        if store["how"] == "hang":
            entered.set()
            await never.wait()
        return "done"

    flow = one_step(task)
    tracer = seen.tracers.get_tracer("mine")
    with caplog.at_level(logging.WARNING, "opentelemetry"), tracer.start_as_current_span("request") as request:
        async with make_kernel() as kernel:
            await kernel.run(flow, {"how": "well"})
            assert trace.get_current_span() is request
            with pytest.raises(TaskError):
                await kernel.run(flow, {"how": "fail"})
            assert trace.get_current_span() is request

            async def cancelled() -> bool:
                try:
                    await kernel.run(flow, {"how": "hang"})
                except asyncio.CancelledError:
                    return trace.get_current_span() is request
                return False

            job = asyncio.ensure_future(cancelled())
            await entered.wait()
            job.cancel()
            assert await job

    assert caplog.messages == []
    request_id = request.get_span_context().span_id
    assert [span.parent.span_id for span in seen.named("RUN one") if span.parent is not None] == [request_id] * 3


async def test_a_run_inside_an_async_generator(
    make_kernel: MakeKernel, seen: Seen, caplog: pytest.LogCaptureFixture
) -> None:
    """A generator that yields within a task, and one around runs, can be closed early: no span stays current."""

    async def parts() -> Any:
        for part in range(3):
            yield part, current_name()

    async def look(store: Any) -> str:
        parts_left = parts()
        async for _, name in parts_left:
            assert name == "attempt"
            break
        await parts_left.aclose()
        return "done"

    flow = one_step(look)
    async with make_kernel() as kernel:

        async def results() -> Any:
            while True:
                yield await kernel.run(flow), current_name()

        around = results()
        with caplog.at_level(logging.WARNING):
            async for _, name in around:
                assert name is None
                break
            await around.aclose()

    assert current_name() is None
    assert caplog.messages == []
    assert len(seen.named("RUN one")) == 1


def test_torn_down_elsewhere(caplog: pytest.LogCaptureFixture) -> None:
    """Detaching in another context than the token's logs nothing."""
    token = context.attach(context.set_value("key", 1))
    with caplog.at_level(logging.WARNING):
        copy_context().run(detach, token)
    context.detach(token)

    assert caplog.messages == []


async def test_started_in_a_span_that_has_ended(make_kernel: MakeKernel, seen: Seen) -> None:
    """A run links to the span in which it was started, instead of being its child, if that span has ended."""
    tracer = seen.tracers.get_tracer("mine")
    async with make_kernel() as kernel:
        with tracer.start_as_current_span("request") as request:
            handle = await kernel.start(one_step(done))  # its task has not begun yet
        await handle.result()

    run = seen.one("RUN one")
    assert run.parent is None
    assert [(link.context, dict(link.attributes or {})) for link in run.links] == [
        (request.get_span_context(), {"cano.link": "caller"})
    ]


async def test_remote_parent_and_baggage(make_kernel: MakeKernel, seen: Seen) -> None:
    """A caller in another process is the parent, and its baggage reaches the tasks."""
    remote = trace.SpanContext(0xABC, 0xDEF, is_remote=True, trace_flags=trace.TraceFlags(1))
    heard: list[object] = []

    async def listen(store: Any) -> str:
        heard.append(baggage.get_baggage("user"))
        return "done"

    async with make_kernel() as kernel:
        outer = trace.set_span_in_context(trace.NonRecordingSpan(remote), baggage.set_baggage("user", "ada"))
        token = context.attach(outer)
        try:
            await kernel.run(one_step(listen))
        finally:
            context.detach(token)

    run = seen.one("RUN one")
    assert (run.parent, run.kind, heard) == (remote, SpanKind.SERVER, ["ada"])


async def test_an_exporter_that_raises(seen: Seen, make_kernel: MakeKernel) -> None:
    """A span processor that raises breaks no run and leaves nothing current; it is counted."""

    class Broken(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            if span.name.startswith("step"):
                raise RuntimeError("broken")

        def on_end(self, span: Any) -> None:
            if span.name.startswith("RUN"):
                raise RuntimeError("broken")

    seen.tracers.add_span_processor(Broken())
    async with make_kernel() as kernel:
        result = await kernel.run(one_step(done))
        errors = dict(kernel.observer_errors)

    assert result.state == "done"
    assert errors == {
        "cano_otel.traces.Traces.cano_step_started": 1,
        "cano_otel.traces.Traces.cano_run_finished": 1,
    }
    assert current_name() is None
