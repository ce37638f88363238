"""A span processor that passes every ended span to a function."""

from __future__ import annotations

from collections.abc import Callable

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor


class Collector(SpanProcessor):
    """A span processor that passes every ended span to a function.

    Args:
        add: the function.
    """

    def __init__(self, add: Callable[[ReadableSpan], None]) -> None:
        self._add = add

    def on_end(self, span: ReadableSpan) -> None:
        """See `SpanProcessor.on_end`."""
        self._add(span)
