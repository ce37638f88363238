"""Fixtures for tracing and measuring: a kernel that keeps its spans and measurements in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cano import Kernel
from cano.testing import VirtualClock
from cano_otel import Otel, OtelSettings
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

NESTED = list[Any]


class Seen:
    """The spans and measurements so far."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meters = MeterProvider([self._reader], shutdown_on_exit=False)

    @property
    def spans(self) -> list[ReadableSpan]:
        """All ended spans by start time; of spans with the same start, parents come first."""
        spans = list(self._exporter.get_finished_spans())
        depth = {span.context.span_id: span for span in spans if span.context}

        def level(span: ReadableSpan) -> int:
            return (
                0 if span.parent is None or span.parent.span_id not in depth else 1 + level(depth[span.parent.span_id])
            )

        return sorted(spans, key=lambda span: (span.start_time or 0, level(span)))

    def named(self, name: str) -> list[ReadableSpan]:
        """The spans of that name."""
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        """The only span of that name."""
        (span,) = self.named(name)
        return span

    def tree(self) -> NESTED:
        """The spans' names, nested: a name, followed by a list where it has children."""
        spans = self.spans
        ids = {span.context.span_id for span in spans if span.context}

        def below(parent: int | None) -> NESTED:
            made: NESTED = []
            for span in spans:
                above = span.parent.span_id if span.parent is not None else None
                if above == parent or (parent is None and above not in ids):
                    made.append(span.name)
                    if span.context is not None and (children := below(span.context.span_id)):
                        made.append(children)
            return made

        return below(None)

    def metrics(self, name: str) -> dict[tuple[tuple[str, Any], ...], Any]:
        """A metric's data points: attributes to value, or to (count, sum)."""
        data = self._reader.get_metrics_data()
        found: dict[tuple[tuple[str, Any], ...], Any] = {}
        for resource in data.resource_metrics if data is not None else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name == name:
                        for point in metric.data.data_points:
                            key = tuple(sorted((point.attributes or {}).items()))
                            if isinstance(point, HistogramDataPoint):
                                found[key] = (point.count, round(point.sum, 6))
                            elif isinstance(point, NumberDataPoint):
                                found[key] = point.value
        return found


@pytest.fixture
def seen() -> Iterator[Seen]:
    """The spans and measurements of the kernels of `make_kernel`."""
    seen = Seen()
    yield seen
    seen.tracers.shutdown()
    seen.meters.shutdown()


@pytest.fixture
def make_kernel(seen: Seen) -> Callable[..., Kernel]:
    """Makes a kernel that is traced and measured, in virtual time."""

    def make(*plugins: Any, detail: str = "attempt", **options: Any) -> Kernel:
        otel = Otel(OtelSettings(detail=detail), tracer_provider=seen.tracers, meter_provider=seen.meters)
        return Kernel(discover=False, plugins=["memory", *plugins, otel], **{"clock": VirtualClock(), **options})

    return make
