"""The ids of the current OpenTelemetry span, on every line."""

from __future__ import annotations

import sys
from collections.abc import MutableMapping
from typing import Any


def trace_ids() -> dict[str, str]:
    """The ids of the current OpenTelemetry span, where there is one."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return {}
    span = trace.get_current_span()
    if span is trace.INVALID_SPAN:  # which is what there mostly is, where there is none
        return {}
    context = span.get_span_context()
    if not context.is_valid:
        return {}
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}


def add_trace_ids(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: gives every line, those of user code too, the ids of the span that is current.

    It is part of the configuration that this plugin makes; an application that configures structlog itself adds it.
    """
    for name, value in trace_ids().items():
        event.setdefault(name, value)
    return event
