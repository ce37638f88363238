"""A collector that receives OTLP/HTTP exports."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector:
    """The telemetry received so far.

    Attributes:
        spans: every span, in the order of arrival.
        metrics: names of the metrics.
        endpoint: its URL.
    """

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.spans: list[Span] = []
        self.metrics: set[str] = set()

    def receive(self, path: str, body: bytes) -> None:
        """Store the content of one request."""
        if path == "/v1/traces":
            traces = ExportTraceServiceRequest.FromString(body)
            self.spans += [s for group in traces.resource_spans for scope in group.scope_spans for s in scope.spans]
        else:
            metrics = ExportMetricsServiceRequest.FromString(body)
            self.metrics |= {
                m.name for group in metrics.resource_metrics for scope in group.scope_metrics for m in scope.metrics
            }

    def runs(self, workflow: str) -> list[Span]:
        """The spans of runs of that workflow."""
        return [span for span in self.spans if span.name == f"RUN {workflow}"]


@contextmanager
def collector() -> Iterator[Collector]:
    """A collector that listens on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the base class calls it that
            received.receive(self.path, self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        received = Collector(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield received
        finally:
            server.shutdown()
            thread.join()
