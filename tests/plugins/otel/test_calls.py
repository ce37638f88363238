"""The span of a call in the process of an executor."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from cano import Kernel, Workflow
from cano_otel.calls import Execution, sent
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

from tests.plugins.otel.conftest import Seen


class Broken(SpanProcessor):
    """A processor that raises."""

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        """Raise."""
        raise RuntimeError("broken\nat start")

    def on_end(self, span: Any) -> None:
        """Raise."""
        raise RuntimeError("broken at end")


async def test_what_is_sent(make_kernel: Callable[..., Kernel], seen: Seen) -> None:
    """The current span and the baggage are sent, and are current where the call is executed."""
    told: list[Any] = []

    async def work(store: Any) -> str:
        headers = sent()
        assert sorted(headers) == ["baggage", "traceparent"]
        with Execution(headers, seen.tracers.get_tracer("there")):
            told.append([getattr(trace.get_current_span(), "name", ""), baggage.get_baggage("user")])
        return "done"

    token = context.attach(baggage.set_baggage("user", "ada"))
    async with make_kernel() as kernel:
        await kernel.run(Workflow("a", name="one").register("a", work).add_exit_state("done"))
    context.detach(token)

    assert told == [["call", "ada"]]
    assert seen.tree() == ["RUN one", ["step a", ["attempt", ["call"]]]]


@pytest.mark.parametrize("where", ["start", "end"])
async def test_a_processor_that_raises(
    make_kernel: Callable[..., Kernel], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """It fails no call; the problem is logged in one line, and nothing stays current."""
    broken, tracers = Broken(), TracerProvider(shutdown_on_exit=False)
    if where == "end":
        monkeypatch.setattr(broken, "on_start", lambda span, parent_context=None: None)
    tracers.add_span_processor(broken)

    async def work(store: Any) -> str:
        before = trace.get_current_span()
        with Execution(sent(), tracers.get_tracer("there")):
            pass
        assert trace.get_current_span() is before
        return "done"

    with caplog.at_level(logging.WARNING, "cano_otel"):
        async with make_kernel() as kernel:
            await kernel.run(Workflow("a", name="one").register("a", work).add_exit_state("done"))

    assert [line.partition("broken")[0] for line in caplog.messages] == ["a call could not be traced: "]
    assert where in caplog.messages[0]
    assert "\n" not in caplog.messages[0]
