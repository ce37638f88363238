"""`add_trace_ids`: the ids of the current OpenTelemetry span on every line."""

from __future__ import annotations

import sys
from collections.abc import MutableMapping
from typing import Any


def trace_ids() -> dict[str, str]:
    """Return the ids of the current OpenTelemetry span, or an empty dict if there is none."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return {}
    span = trace.get_current_span()
    if span is trace.INVALID_SPAN:  # a quick check of the usual case
        return {}
    context = span.get_span_context()
    if not context.is_valid:
        return {}
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}


def add_trace_ids(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add the ids of the current OpenTelemetry span to a line. It is a structlog processor.

    The plugin's own configuration includes it. An application that configures structlog must add it itself.
    """
    for name, value in trace_ids().items():
        event.setdefault(name, value)
    return event
