"""Parent and links of a run's span, and the W3C traceparent that is stored with the run."""

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
    """Return the W3C traceparent of `span`, or an empty string if its context is invalid."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier, trace.set_span_in_context(span, Context()))
    return carrier.get(TRACEPARENT, "")


def previous_segment(carried: Mapping[str, str]) -> SpanContext | None:
    """Return the context of the segment that the run resumes; None if it is missing or unreadable."""
    line = carried.get(TRACEPARENT)
    if not isinstance(line, str):
        return None
    found = trace.get_current_span(_propagator.extract({TRACEPARENT: line}, Context())).get_span_context()
    return found if found.is_valid else None


def parent_and_links(run: Run, scheduled: bool) -> tuple[Context | None, list[Link]]:
    """Return the context to start a run's span in, None for the current one, and the span's links.

    A child run's span is a child of its parent's step. The span of a new run is a child of the current span. In these
    cases a run begins a trace of its own, with links to its earlier segment and to the current span:

    - the run is resumed;
    - a schedule started it;
    - the current span has already ended.
    """
    current = trace.get_current_span()
    links = []
    if run.resumed and (before := previous_segment(run.carried)) is not None:
        links.append(Link(before, {LINK: EARLIER}))
    if run.parent is not None or not (run.resumed or scheduled or _has_ended(current)):
        return None, links
    if current.get_span_context().is_valid:
        links.append(Link(current.get_span_context(), {LINK: CALLER}))
    return trace.set_span_in_context(trace.INVALID_SPAN), links


def _has_ended(span: Span) -> bool:
    """Return whether the span was recorded here and has ended. Remote and unsampled spans never have."""
    return getattr(span, "end_time", None) is not None
