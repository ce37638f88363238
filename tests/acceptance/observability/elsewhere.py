"""A program whose tasks another process executes: `python elsewhere.py EXECUTOR`."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import structlog
from cano import Kernel, KeyValueStore, Node, TaskConfig, TaskError, Workflow
from opentelemetry import baggage, context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

ELSEWHERE = TaskConfig(executor="elsewhere", retry="none")
log: Any = structlog.get_logger()
if os.environ.get("PROVIDER"):  # of the application, which each process makes
    provider = TracerProvider()
    make = SimpleSpanProcessor if os.environ["PROVIDER"] == "simple" else BatchSpanProcessor
    provider.add_span_processor(make(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
structlog.configure(
    [structlog.contextvars.merge_contextvars, structlog.processors.JSONRenderer(sort_keys=True)],
    structlog.make_filtering_bound_logger(30),
    logger_factory=structlog.PrintLoggerFactory(sys.stderr),
)


def say(store: KeyValueStore) -> Any:
    """Make a span and a line."""
    with trace.get_tracer("mine").start_as_current_span("mine") as span:
        span.set_attribute("user", str(baggage.get_baggage("user")))
        log.warning("said", here=os.getpid() == store["parent"])
    if store["fails"]:
        raise ValueError("said no")
    return "count"


class Count(Node[str, int, int]):
    """A node whose `exec` is executed elsewhere."""

    async def prep(self, store: KeyValueStore) -> int:
        """Read."""
        return 1

    async def exec(self, prepared: int) -> int:
        """Write a line."""
        log.warning("counted")
        return prepared

    async def post(self, store: KeyValueStore, prepared: int, result: int) -> str:
        """End."""
        return "done"


flow: Workflow[str] = Workflow("say", name="said", version="2", default_config=ELSEWHERE)
flow.register("say", say).register("count", Count(ELSEWHERE)).add_exit_state("done")


async def main(executor: str) -> None:
    """Execute two runs, the second of which fails."""
    token = context.attach(baggage.set_baggage("user", "ada"))
    with structlog.contextvars.bound_contextvars(customer="ada", age=36, vip=True, secret=object(), run_id="other"):
        async with Kernel(executor={"elsewhere": executor}) as kernel:
            await kernel.run(flow, {"parent": os.getpid(), "fails": False}, run_id="one")
            try:
                await kernel.run(flow, {"parent": os.getpid(), "fails": True}, run_id="two")
            except TaskError:
                log.warning("ended")
    context.detach(token)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
