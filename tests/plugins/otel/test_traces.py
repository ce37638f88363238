"""Spans: their names, attributes, start and end times."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from cano import (
    Kernel,
    Node,
    RunCancelledError,
    RunInterruptedError,
    SizeLimits,
    StepTimeoutError,
    TaskConfig,
    TaskError,
    Workflow,
    hookimpl,
)
from cano.testing import VirtualClock
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from tests.plugins.otel.conftest import Seen

MakeKernel = Callable[..., Kernel]


class Once:
    """A retry strategy: one retry, after two seconds."""

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        return 2.0 if attempt == 1 else None


def one_step(task: Any, name: str = "one", **config: Any) -> Workflow[str]:
    flow = Workflow("a", name=name, version="7").add_exit_state("done")
    return flow.register("a", task, config=TaskConfig(**config))


async def done(store: Any) -> str:
    return "done"


def current_name() -> str | None:
    return getattr(trace.get_current_span(), "name", None)


async def test_a_span_for_run_step_and_attempt(make_kernel: MakeKernel, seen: Seen) -> None:
    """A run of one step is three spans, each in the other, with the conventions' attributes."""
    async with make_kernel() as kernel:
        result = await kernel.run(one_step(done))

    assert seen.tree() == ["RUN one", ["step a", ["attempt"]]]
    run, step, attempt = seen.spans
    assert (run.kind, step.kind, run.status.status_code) == (SpanKind.SERVER, SpanKind.INTERNAL, StatusCode.UNSET)
    assert dict(run.attributes or {}) == {
        "cicd.pipeline.action.name": "RUN",
        "cicd.pipeline.name": "one",
        "cicd.pipeline.run.id": result.run_id,
        "cicd.pipeline.result": "success",
        "cano.workflow.version": "7",
        "cano.run.resumed": False,
        "cano.run.status": "succeeded",
        "cano.run.state": "done",
        "cano.run.steps": 1,
    }
    assert dict(step.attributes or {}) == {
        "cicd.pipeline.name": "one",
        "cicd.pipeline.run.id": result.run_id,
        "cicd.pipeline.task.name": "done",
        "cicd.pipeline.task.run.id": f"{result.run_id}:1",
        "cicd.pipeline.task.run.result": "success",
        "cano.step.state": "a",
        "cano.step.next_state": "done",
        "cano.step.seq": 1,
    }
    assert dict(attempt.attributes or {}) == {"cano.attempt.number": 1, "cicd.pipeline.task.run.result": "success"}


@pytest.mark.parametrize(
    ("detail", "tree", "current"),
    [
        ("run", ["RUN one"], "RUN one"),
        ("step", ["RUN one", ["step a"]], "step a"),
        ("attempt", ["RUN one", ["step a", ["attempt"]]], "attempt"),
    ],
)
async def test_detail(make_kernel: MakeKernel, seen: Seen, detail: str, tree: Any, current: str) -> None:
    """Finer spans than asked for are not made; the finest one is current in the task, and in its thread."""
    names: list[str | None] = []

    def look(store: Any) -> str:
        names.append(current_name())
        return "done"

    async with make_kernel(detail=detail) as kernel:
        await kernel.run(one_step(look))

    assert (seen.tree(), names) == (tree, [current])


async def test_retries_are_attempts_of_one_step(make_kernel: MakeKernel, seen: Seen) -> None:
    """A second attempt begins when its delay is over, and is current in the task; only the first one has the error."""
    tried: list[trace.SpanContext] = []

    async def flaky(store: Any) -> str:
        tried.append(trace.get_current_span().get_span_context())
        if len(tried) == 1:
            raise ValueError("no")
        return "done"

    async with make_kernel() as kernel:
        await kernel.run(one_step(flaky, retry=Once()))

    run, step = seen.spans[:2]
    first, second = seen.named("attempt")
    assert [first.context, second.context] == tried
    assert (first.status.status_code, first.status.description) == (StatusCode.ERROR, "no")
    assert (first.attributes or {})["error.type"] == "ValueError"
    assert (first.attributes or {})["cano.attempt.retry_delay"] == 2.0
    assert [event.name for event in first.events] == ["exception"]
    assert (second.attributes or {})["cano.attempt.number"] == 2
    assert second.start_time == (first.end_time or 0) + 2 * 10**9
    assert (step.start_time, step.end_time) == (first.start_time, second.end_time)
    assert {span.status.status_code for span in (run, step, second)} == {StatusCode.UNSET}


async def test_failure(make_kernel: MakeKernel, seen: Seen) -> None:
    """A failure is on run, step and attempt under the name of what the user raised; the traceback is there once."""

    async def fail(store: Any) -> str:
        raise LookupError("gone")

    async with make_kernel() as kernel:
        with pytest.raises(TaskError):
            await kernel.run(one_step(fail))

    assert [(span.attributes or {})["error.type"] for span in seen.spans] == ["LookupError"] * 3
    assert {span.status.status_code for span in seen.spans} == {StatusCode.ERROR}
    assert [len(span.events) for span in seen.spans] == [0, 0, 1]
    assert "LookupError: gone" in str((seen.spans[2].events[0].attributes or {})["exception.stacktrace"])
    assert (seen.spans[0].attributes or {})["cicd.pipeline.result"] == "failure"


async def test_an_exception_that_cannot_be_formatted(make_kernel: MakeKernel, seen: Seen) -> None:
    """All spans end, and the attempt's has the exception's class and frames."""

    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    async def fail(store: Any) -> str:
        raise Odd

    async with make_kernel() as kernel:
        with pytest.raises(TaskError):
            await kernel.run(one_step(fail))

    assert kernel.observer_errors == {}
    assert seen.tree() == ["RUN one", ["step a", ["attempt"]]]
    recorded = seen.spans[2].events[0].attributes or {}
    assert str(recorded["exception.type"]).endswith(".Odd")
    assert recorded["exception.message"] == "<Odd, whose str() raised RuntimeError>"
    assert "in fail\n" in str(recorded["exception.stacktrace"])
    assert str(recorded["exception.stacktrace"]).endswith("<Odd, whose str() raised RuntimeError>")


async def test_timeout(make_kernel: MakeKernel, seen: Seen) -> None:
    """A timeout has a result of its own."""

    async def hang(store: Any) -> str:
        await kernel.clock.sleep(100)
        return "done"

    async with make_kernel() as kernel:
        with pytest.raises(StepTimeoutError):
            await kernel.run(one_step(hang, timeout=5))

    run, step, attempt = seen.spans
    assert (run.attributes or {})["cicd.pipeline.result"] == "timeout"
    assert (step.attributes or {})["cicd.pipeline.task.run.result"] == "timeout"
    assert (attempt.attributes or {})["error.type"] == "cano.errors.StepTimeoutError"
    assert (attempt.end_time or 0) - (attempt.start_time or 0) == 5 * 10**9


async def test_cancellation(make_kernel: MakeKernel, seen: Seen) -> None:
    """All spans of a cancelled run end with the result `cancellation` and without a traceback."""
    entered, never = asyncio.Event(), asyncio.Event()

    async def hang(store: Any) -> str:
        entered.set()
        await never.wait()
        return "done"

    async with make_kernel() as kernel:
        handle = await kernel.start(one_step(hang))
        await entered.wait()
        await handle.cancel()
        with pytest.raises(RunCancelledError):
            await handle.result()

    assert seen.tree() == ["RUN one", ["step a", ["attempt"]]]
    assert (seen.spans[0].attributes or {})["cicd.pipeline.result"] == "cancellation"
    assert {(span.attributes or {})["error.type"] for span in seen.spans} == {"cano.errors.RunCancelledError"}
    assert [len(span.events) for span in seen.spans] == [0, 0, 0]


async def test_no_span_for_an_attempt_that_never_began(make_kernel: MakeKernel, seen: Seen) -> None:
    """A run that is cancelled while it waits for its next attempt has no span for that one."""
    waits = asyncio.Event()

    class Tell:
        @hookimpl
        def cano_step_retrying(self, step: Any) -> None:
            waits.set()

    class Late:
        def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
            return 50.0

    async def fail(store: Any) -> str:
        raise ValueError

    async with make_kernel(Tell(), clock=VirtualClock(auto=False)) as kernel:
        handle = await kernel.start(one_step(fail, retry=Late()))
        await waits.wait()
        await handle.cancel()
        await asyncio.gather(handle.result(), return_exceptions=True)

    assert seen.tree() == ["RUN one", ["step a", ["attempt"]]]
    assert (seen.one("attempt").attributes or {})["error.type"] == "ValueError"
    assert (seen.one("step a").attributes or {})["error.type"] == "cano.errors.RunCancelledError"


async def test_interrupted_run(make_kernel: MakeKernel, seen: Seen) -> None:
    """An interrupted segment has no result, since the run may be resumed."""
    entered, never = asyncio.Event(), asyncio.Event()

    async def hang(store: Any) -> str:
        entered.set()
        await never.wait()
        return "done"

    async with make_kernel(grace=0) as kernel:
        handle = await kernel.start(one_step(hang), run_id="r")
        await entered.wait()
    with pytest.raises(RunInterruptedError):
        await handle.result()

    run = seen.one("RUN one")
    assert (run.attributes or {})["cano.run.status"] == "interrupted"
    assert "cicd.pipeline.result" not in (run.attributes or {})
    assert run.status.status_code is StatusCode.UNSET


async def test_phases_that_failed_are_named(make_kernel: MakeKernel, seen: Seen) -> None:
    """An attempt at a node says in which phase it failed."""

    class Bad(Node[str, int, int]):
        async def prep(self, store: Any) -> int:
            return 1

        async def exec(self, prepared: int) -> int:
            raise ValueError

        async def post(self, store: Any, prepared: int, result: int) -> str:
            return "done"

    async with make_kernel() as kernel:
        with pytest.raises(TaskError):
            await kernel.run(one_step(Bad()))

    assert (seen.one("attempt").attributes or {})["cano.node.phase"] == "exec"


async def test_phases(make_kernel: MakeKernel, seen: Seen) -> None:
    """Each phase that is gone through is a span, current in that phase; the fallback of a failed `exec` is another."""
    current: list[str | None] = []

    class Phased(Node[str, int, int]):
        async def prep(self, store: Any) -> int:
            current.append(current_name())
            return 1

        async def exec(self, prepared: int) -> int:
            current.append(current_name())
            raise ValueError

        async def exec_fallback(self, prepared: int, error: Exception) -> int:
            current.append(current_name())
            return 2

        async def post(self, store: Any, prepared: int, result: int) -> str:
            current.append(current_name())
            return "done"

    async with make_kernel() as kernel:
        await kernel.run(one_step(Phased(), retry=Once()))

    first = ["prep", "exec"]
    second = ["exec", "exec_fallback", "post"]
    assert seen.tree() == ["RUN one", ["step a", ["attempt", first, "attempt", second]]]
    assert current == [*first, *second]
    results = [(span.attributes or {})["cicd.pipeline.task.run.result"] for span in seen.named("exec")]
    assert results == ["failure", "failure"]


async def test_texts_of_errors_are_cut(make_kernel: MakeKernel, seen: Seen) -> None:
    """Spans keep as much of an error's message as the limit allows, in the status and in the recorded exception."""

    async def fail(store: Any) -> str:
        raise ValueError("x" * 1_000_000)

    async with make_kernel(block=["retry"], limits=SizeLimits(errors=100)) as kernel:
        with pytest.raises(TaskError):
            await kernel.run(one_step(fail), {})
    descriptions = [span.status.description or "" for span in seen.spans]
    recorded = [event.attributes or {} for span in seen.spans for event in span.events]
    texts = [*descriptions, *(str(each["exception.message"]) for each in recorded)]
    assert len(descriptions) == 3
    assert len(recorded) == 1
    assert all(text.endswith("more characters)") and len(text) < 150 for text in texts)
    assert "x" * 101 not in str(recorded)
