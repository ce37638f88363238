"""Traces and metrics of a few runs, sent over OTLP to a collector.

    python examples/otlp_export.py                          starts a collector and prints what it receives
    python examples/otlp_export.py http://localhost:4318    sends them to your collector

It needs cano-otel from a checkout, and

    python -m pip install opentelemetry-exporter-otlp-proto-http

The workflow needs no code for this: the environment names an exporter, and the installed plugin does the rest.
"""

import asyncio
import os
import sys
import threading
from collections import Counter
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

from cano import Kernel, Key, KeyValueStore, Workflow
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class State(Enum):
    ASK = auto()
    HALVE = auto()
    TRIPLE = auto()
    DONE = auto()


NUMBER = Key("number", int)

flow = Workflow(State.ASK, name="collatz").add_exit_state(State.DONE)


@flow.on(State.ASK)
async def ask(store: KeyValueStore) -> Literal[State.HALVE, State.TRIPLE, State.DONE]:
    number = store[NUMBER] = store.get(NUMBER, default=6)
    if number == 1:
        return State.DONE
    return State.TRIPLE if number % 2 else State.HALVE


@flow.on(State.HALVE)
async def halve(store: KeyValueStore) -> Literal[State.ASK]:
    store[NUMBER] //= 2
    return State.ASK


@flow.on(State.TRIPLE)
async def triple(store: KeyValueStore) -> Literal[State.ASK]:
    store[NUMBER] = 3 * store[NUMBER] + 1
    return State.ASK


SPANS: Counter[str] = Counter()
METRICS: set[str] = set()


class Collector(BaseHTTPRequestHandler):
    """A minimal collector that decodes requests and counts spans and metrics."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v1/traces":
            for traces in ExportTraceServiceRequest.FromString(body).resource_spans:
                SPANS.update(span.name for scope in traces.scope_spans for span in scope.spans)
        else:
            for metrics in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                METRICS.update(metric.name for scope in metrics.scope_metrics for metric in scope.metrics)
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


async def main(endpoint: str) -> None:
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = endpoint
    os.environ.setdefault("OTEL_SERVICE_NAME", "collatz")
    async with Kernel(block=["structlog"]) as kernel:  # closing the kernel sends everything
        results = await asyncio.gather(*(kernel.run(flow, {NUMBER: number}) for number in range(1, 8)))
    print(f"{len(results)} runs with {sum(result.steps for result in results)} steps were sent to {endpoint}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(main(sys.argv[1]))
    else:
        with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            asyncio.run(main(f"http://127.0.0.1:{server.server_port}"))
            server.shutdown()
        for name, count in sorted(SPANS.items()):
            print(f"{count:5} spans {name!r}")
        print("metrics", ", ".join(sorted(METRICS)))
