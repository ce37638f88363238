"""A span processor that hands on every span that has ended."""

from __future__ import annotations

from collections.abc import Callable

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor


class Collector(SpanProcessor):
    """Hands on every span that has ended.

    Args:
        add: what it is handed to.
    """

    def __init__(self, add: Callable[[ReadableSpan], None]) -> None:
        self._add = add

    def on_end(self, span: ReadableSpan) -> None:
        """See `SpanProcessor.on_end`."""
        self._add(span)
