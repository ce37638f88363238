"""A thousand runs at once, and observers that raise or are slow: no ids get mixed up, no run fails or changes order."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import structlog
from cano import JoinConfig, JoinStrategy, Kernel, KeyValueStore, Step, SubWorkflow, Workflow, hookimpl
from cano_otel import Otel
from cano_structlog import EVENTS, LogSettings, RunLog
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.testing import capture_logs

RUNS = 1000


@pytest.fixture(autouse=True)
def _structlog() -> Iterator[None]:
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


def busy(tracer: trace.Tracer) -> Workflow[str]:
    """A workflow whose tasks often yield, write log lines and make spans, also in branches and a child run."""
    log = structlog.get_logger("mine")

    async def look(store: KeyValueStore) -> None:
        for _ in range(2):
            await asyncio.sleep(0)
            with tracer.start_as_current_span("mine", attributes={"own": store["own"]}) as span:
                await asyncio.sleep(0)
                log.info("mine", own=store["own"], span=f"{span.get_span_context().span_id:016x}")

    async def step(store: KeyValueStore) -> str:
        await look(store)
        return {"a": "b", "only": "end"}[structlog.contextvars.get_contextvars()["state"]]

    child = Workflow("only", name="child").add_exit_state("end").register("only", step)
    flow = Workflow("a", name="busy").add_exit_state("done")
    flow.register("a", step)
    flow.register_split("b", [look, look], JoinConfig(JoinStrategy.all(), "c"))
    return flow.register("c", SubWorkflow(child, {"own": "own"}, then="done"))


async def test_a_thousand_runs_at_once() -> None:
    """Of 1,000 interleaved runs every line and every span is in the trace of the run that made it."""
    exporter = InMemorySpanExporter()
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    flow = busy(tracers.get_tracer("mine"))
    plugins = ["memory", Otel(tracer_provider=tracers), RunLog(LogSettings(levels=dict.fromkeys(EVENTS, "info")))]
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as log:
        async with Kernel(discover=False, plugins=plugins) as kernel:
            results = await asyncio.gather(*(kernel.run(flow, {"own": number}) for number in range(RUNS)))

    spans = exporter.get_finished_spans()
    roots = [span for span in spans if span.parent is None]
    by_id = {span.context.span_id: span for span in spans if span.context}
    own_of_run = {result.run_id: number for number, result in enumerate(results)}
    own_of_trace = {
        span.context.trace_id: own_of_run[str((span.attributes or {})["cicd.pipeline.run.id"])]
        for span in roots
        if span.context
    }
    assert (len(roots), len(own_of_trace)) == (RUNS, RUNS)
    assert [span.name for span in spans if span.parent is not None and span.parent.span_id not in by_id] == []
    per_trace = Counter(span.context.trace_id for span in spans if span.context)
    # the run, and its child; 3 + 1 steps and 2 branches with an attempt each; 2 spans in each of 4 tasks
    assert set(per_trace.values()) == {2 + 2 * (3 + 1 + 2) + 2 * 4}
    for span in spans:
        assert span.context is not None
        own = (span.attributes or {}).get("own")
        assert own is None or own == own_of_trace[span.context.trace_id]
        run_id = (span.attributes or {}).get("cicd.pipeline.run.id")
        assert run_id is None or own_of_run[str(run_id).partition(":")[0]] == own_of_trace[span.context.trace_id]
    assert len(log) == RUNS * (8 + 4 + 2 * (4 + 2) + 4)
    for line in log:
        own = own_of_run[line["run_id"].partition(":")[0]]
        if line["event"] == "mine":
            assert line["own"] == own
            assert own_of_trace[context(by_id[int(line["span"], 16)]).trace_id] == own
        else:
            assert own_of_trace[int(line["trace_id"], 16)] == own
            assert context(by_id[int(line["span_id"], 16)]).trace_id == int(line["trace_id"], 16)


def context(span: ReadableSpan) -> Any:
    """A span's context, which every span that has ended has."""
    return span.context


class Stuck(SpanExporter):
    """An exporter that blocks until it is released."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.names: list[str] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """See `SpanExporter.export`."""
        self.go_on.wait()
        self.names += [span.name for span in spans]
        return SpanExportResult.SUCCESS


async def test_a_slow_exporter_blocks_no_run() -> None:
    """Runs end while the exporter hangs; their spans are sent when it continues."""
    stuck = Stuck()
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(BatchSpanProcessor(stuck, max_export_batch_size=1, max_queue_size=1000))
    flow = Workflow("a", name="flow").add_exit_state("done").register("a", at_once)
    async with Kernel(discover=False, plugins=["memory", Otel(tracer_provider=tracers)]) as kernel:
        for _ in range(20):
            assert (await kernel.run(flow)).state == "done"
        assert stuck.names == []
        stuck.go_on.set()
    tracers.shutdown()

    assert Counter(stuck.names) == {"RUN flow": 20, "step a": 20, "attempt": 20}


async def at_once(store: Any) -> str:
    return "done"


async def test_an_observer_that_raises_is_counted() -> None:
    """If an observer's hooks raise, runs, logs and traces are complete all the same, and each failure is counted."""
    order: list[str] = []

    class Broken:
        @hookimpl(tryfirst=True)
        def cano_step_started(self, step: Step) -> None:
            order.append(f"started {step.state}")
            raise RuntimeError

        @hookimpl(tryfirst=True)
        def cano_step_finished(self, step: Step) -> None:
            order.append(f"finished {step.state}")
            raise RuntimeError

    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers, meters = TracerProvider(shutdown_on_exit=False), MeterProvider([reader], shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    flow = Workflow("a", name="flow").add_exit_state("done")

    @flow.on("a")
    async def a(store: KeyValueStore) -> str:
        return "b"

    flow.register("b", at_once)
    otel = Otel(tracer_provider=tracers, meter_provider=meters)
    async with Kernel(discover=False, plugins=["memory", otel, Broken()]) as kernel:
        with capture_logs():
            assert (await kernel.run(flow)).state == "done"

    names = [span.name for span in exporter.get_finished_spans()]
    data = reader.get_metrics_data()
    assert order == ["started a", "finished a", "started b", "finished b"]
    assert names == ["attempt", "step a", "attempt", "step b", "RUN flow"]
    assert data is not None
    (points,) = [
        metric.data.data_points
        for scope in data.resource_metrics[0].scope_metrics
        for metric in scope.metrics
        if metric.name == "cano.observer.errors"
    ]
    assert sorted(point.value for point in points if hasattr(point, "value")) == [2, 2]


class Slow:
    """An observer that blocks in every step until a thread releases it, and then raises."""

    def __init__(self) -> None:
        self._blocked, self._go_on = threading.Event(), threading.Event()
        self._over = False
        self._thread = threading.Thread(target=self._let_go)
        self._thread.start()

    def _let_go(self) -> None:
        while not self._over:
            self._blocked.wait()
            self._blocked.clear()
            self._go_on.set()

    @hookimpl(tryfirst=True)
    def cano_step_started(self, step: Step) -> None:
        self._go_on.clear()
        self._blocked.set()
        self._go_on.wait()
        raise RuntimeError("at last")

    def stop(self) -> None:
        """Let its thread end."""
        self._over = True
        self._blocked.set()
        self._thread.join()


class Watching:
    """Notes every moment of a step, in order."""

    def __init__(self) -> None:
        self.moments: list[str] = []

    @hookimpl
    def cano_step_started(self, step: Step) -> None:
        self.moments.append(f"{step.run_id} started {step.state}")

    @hookimpl
    def cano_step_finished(self, step: Step) -> None:
        self.moments.append(f"{step.run_id} finished {step.state}")

    @hookimpl
    def cano_transition_committed(self, step: Step) -> None:
        self.moments.append(f"{step.run_id} committed {step.state}")


async def interleaved(*plugins: Any) -> tuple[list[str], list[Any], int]:
    """Execute 20 runs at once. Return their hook calls, their results, and how often observers raised."""
    flow = Workflow("a", name="flow").add_exit_state("done")

    @flow.on("a")
    async def a(store: KeyValueStore) -> str:
        await asyncio.sleep(0)
        return "b"

    flow.register("b", at_once)
    watching = Watching()
    async with Kernel(discover=False, plugins=["memory", watching, *plugins]) as kernel:
        results = await asyncio.gather(*(kernel.run(flow, run_id=f"r{number}") for number in range(20)))
        return watching.moments, [result.state for result in results], sum(kernel.observer_errors.values())


async def test_a_slow_observer_reorders_nothing() -> None:
    """A blocking observer does not change the order of concurrent runs' steps, and each of its errors is counted."""
    slow = Slow()
    try:
        with_it = await interleaved(slow)
    finally:
        slow.stop()
    without = await interleaved()

    assert with_it[:2] == without[:2]
    assert len(with_it[0]) == 20 * 2 * 3
    assert (with_it[2], without[2]) == (40, 0)
