"""What it costs to be seen: logs, traces and metrics of a step, beside the bare library calls for the same.

`python -m tests.benchmarks.observability [steps] [rounds]`. Nothing is exported, and nothing fails on a time.
"""

from __future__ import annotations

import asyncio
import io
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from statistics import median
from typing import Any

import structlog
from cano import Kernel, Workflow
from cano_otel import Otel, OtelSettings
from cano_otel.metrics import SECONDS
from cano_structlog import EVENTS, LogSettings, RunLog
from opentelemetry import context, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

from tests.benchmarks.flows import flow, no_ops
from tests.benchmarks.measure import Line, table, timed

RUN_ID = "01a20bb9efd1615e9009-000001"
RESULT = "cicd.pipeline.task.run.result"


async def bare_spans(tracers: TracerProvider, steps: int) -> None:
    """The spans of `steps` steps and their attempts, as one would make them by hand."""
    tracer = tracers.get_tracer("bare")
    with tracer.start_as_current_span("RUN benchmark"):
        bare_steps(tracer, steps)


def bare_steps(tracer: trace.Tracer, steps: int) -> None:
    """See `bare_spans`."""
    for number in range(steps):
        attributes: dict[str, Any] = {
            "cicd.pipeline.name": "benchmark",
            "cicd.pipeline.run.id": RUN_ID,
            "cicd.pipeline.task.name": "no_op",
            "cicd.pipeline.task.run.id": f"{RUN_ID}:{number}",
            "cano.step.state": "A",
            "cano.step.seq": number,
        }
        step = tracer.start_span("step A", attributes=attributes)
        inside = trace.set_span_in_context(step)
        attempt = tracer.start_span("attempt", inside, attributes={"cano.attempt.number": 1})
        token = context.attach(trace.set_span_in_context(attempt, inside))
        context.detach(token)
        attempt.set_attribute(RESULT, "success")
        attempt.end()
        step.set_attribute(RESULT, "success")
        step.set_attribute("cano.step.next_state", "B")
        step.end()


async def bare_measurements(meters: MeterProvider, steps: int) -> None:
    """The measurements of `steps` steps."""
    meter = meters.get_meter("bare")
    duration = meter.create_histogram("duration", "s", explicit_bucket_boundaries_advisory=SECONDS)
    commit = meter.create_histogram("commit", "s", explicit_bucket_boundaries_advisory=SECONDS)
    attempts = meter.create_counter("attempts")
    for _ in range(steps):
        began = time.monotonic()
        attempts.add(1, {"cicd.pipeline.name": "benchmark", "cano.step.state": "A"})
        attributes = {"cicd.pipeline.name": "benchmark", "cano.step.state": "A", RESULT: "success"}
        ended = time.monotonic()
        duration.record(ended - began, attributes)
        commit.record(time.monotonic() - ended, {"cicd.pipeline.name": "benchmark"})


async def lines_by_hand(steps: int) -> None:
    """The lines of `steps` steps, with the same keys bound for what the steps themselves log, and taken back."""
    logger = structlog.get_logger("bare").bind()  # made once, as structlog's manual advises
    run = structlog.contextvars.bind_contextvars(run_id=RUN_ID, workflow="benchmark", version="1")
    for number in range(steps):
        step = structlog.contextvars.bind_contextvars(state="A", seq=number, attempt=1)
        logger.info("cano.step.started")
        began = time.perf_counter()
        duration = round((time.perf_counter() - began) * 1000, 3)
        logger.info("cano.step.finished", next_state="B", duration_ms=duration)
        structlog.contextvars.reset_contextvars(**step)
    structlog.contextvars.reset_contextvars(**run)


async def bare_lines(steps: int) -> None:
    """The lines of `steps` steps, each with the same keys, and nothing bound."""
    logger = structlog.get_logger("bare")
    for number in range(steps):
        keys = {
            "run_id": RUN_ID, "workflow": "benchmark", "version": "1", "state": "A", "seq": number, "attempt": 1,
        }  # fmt: skip
        logger.info("cano.step.started", **keys)
        logger.info("cano.step.finished", **keys, next_state="B", duration_ms=0.01)


def configure_structlog() -> None:
    """JSON lines into nothing."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(default=str),
        ],
        logger_factory=structlog.PrintLoggerFactory(Nothing()),
    )


class Nothing(io.StringIO):
    """A file that keeps nothing."""

    def write(self, text: str) -> int:
        """See `StringIO.write`."""
        return len(text)


async def measured(steps: int, rounds: int) -> list[Line]:
    """Every line of the table. What is compared was measured in one round; of the rounds, the median counts."""
    configure_structlog()
    tracers, meters = TracerProvider(shutdown_on_exit=False), MeterProvider(shutdown_on_exit=False)
    levels = dict.fromkeys(EVENTS, "off") | {"cano.step.started": "info", "cano.step.finished": "info"}
    kernels = (
        kernel_for([]),
        Kernel(discover=False, plugins=["otel", "structlog"], block=["otel", "structlog"]),
        kernel_for([Otel(OtelSettings(), tracer_provider=None)]),
        kernel_for([Otel(tracer_provider=tracers)]),
        kernel_for([Otel(meter_provider=meters)]),
        kernel_for([RunLog(LogSettings(levels=levels))]),
    )
    handlers = no_ops(steps)
    variants: list[Callable[[], Awaitable[object]]] = [
        *(partial(kernel.orchestrate, benchmark(handlers), {}) for kernel in kernels),
        partial(bare_spans, tracers, steps),
        partial(bare_measurements, meters, steps),
        partial(lines_by_hand, steps),
        partial(bare_lines, steps),
    ]
    taken = [[seconds / steps * 1e6 for seconds in times] for times in await timed(rounds, *variants)]
    alone, blocked, off, traced, metered, logged, spans, measurements, lines, given = taken

    def added(what: list[float], by_hand: list[float]) -> float:
        return median((cost - base) / bare for cost, base, bare in zip(what, alone, by_hand, strict=True))

    def whole(what: list[float]) -> float:
        return median(cost / base for cost, base in zip(what, alone, strict=True))

    return [
        Line("a step with both plugins blocked", "the step without", whole(blocked), "x", 1.05),
        Line("a step with cano-otel installed, nothing asked for", "the step without", whole(off), "x", 1.05),
        Line("a traced step: two spans", "bare OpenTelemetry", added(traced, spans), "x", 1.3),
        Line("a measured step: three measurements", "bare OpenTelemetry", added(metered, measurements), "x", 1.3),
        Line("a logged step: two lines, six keys bound", "bare structlog", added(logged, lines), "x", 1.3),
        Line("the same", "bare structlog, nothing bound", added(logged, given), "x", 1.3),
        *(
            Line(f"{name} of a step by hand", "", median(cost), "µs")
            for name, cost in (("spans", spans), ("measurements", measurements), ("lines", lines))
        ),
    ]


def kernel_for(plugins: list[Any]) -> Kernel:
    """A kernel with these plugins and no others."""
    return Kernel(discover=False, plugins=plugins)


def benchmark(handlers: Any) -> Workflow[Any]:
    """A workflow of its own for each kernel."""
    return flow(handlers)


def main(steps: int = 10_000, rounds: int = 7) -> None:
    """Measure and print."""
    print(table(asyncio.run(measured(steps, rounds))))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
