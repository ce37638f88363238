"""Where a run's span belongs: its parent, its links, and the line that continues it in another process."""

from __future__ import annotations

from collections.abc import Mapping

from cano import Run
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanContext
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from cano_otel.names import CALLER, EARLIER, LINK

TRACEPARENT = "traceparent"

_propagator = TraceContextTextMapPropagator()


def traceparent(span: Span) -> str:
    """`span` as a line of text."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier, trace.set_span_in_context(span, Context()))
    return carrier.get(TRACEPARENT, "")


def earlier(carried: Mapping[str, str]) -> SpanContext | None:
    """The segment that the run goes on from; None where there is none, or what is there makes no sense."""
    line = carried.get(TRACEPARENT)
    if not isinstance(line, str):
        return None
    found = trace.get_current_span(_propagator.extract({TRACEPARENT: line}, Context())).get_span_context()
    return found if found.is_valid else None


def place(run: Run, scheduled: bool) -> tuple[Context | None, list[Link]]:
    """The context to begin a run's span in, None for the current one; and the span's links.

    A run belongs to what is current where it was started. One that goes on is a trace of its own, linked to its
    earlier segment, whoever lets it go on; so is one that was started by something that has ended since, or because
    its time had come, whatever is current around the scheduler. A child belongs to its parent's step in either case.
    """
    current = trace.get_current_span()
    links = []
    if run.resumed and (before := earlier(run.carried)) is not None:
        links.append(Link(before, {LINK: EARLIER}))
    if run.parent is not None or not (run.resumed or scheduled or _over(current)):
        return None, links
    if current.get_span_context().is_valid:
        links.append(Link(current.get_span_context(), {LINK: CALLER}))
    return trace.set_span_in_context(trace.INVALID_SPAN), links


def _over(span: Span) -> bool:
    """Whether the span was recorded and has ended. One that came over the network, or is not sampled, has not."""
    return getattr(span, "end_time", None) is not None
