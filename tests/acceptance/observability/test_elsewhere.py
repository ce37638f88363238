"""Tasks in other processes: their spans belong to the run's, and their log lines have its context."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.acceptance.observability.receiver import Collector, collector

PROGRAM = Path(__file__).with_name("elsewhere.py")


@pytest.fixture
def receiving() -> Iterator[Collector]:
    """A collector that listens."""
    with collector() as receiving:
        yield receiving


def lines_of(executor: str, **environment: str) -> list[dict[str, Any]]:
    """The program's log lines, of all its processes."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "CANO_"))}
    done = subprocess.run(
        [sys.executable, PROGRAM, executor],
        capture_output=True, text=True, check=False, timeout=100, env={**env, "CANO_LOG": "off", **environment},
    )  # fmt: skip
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    return [json.loads(line) for line in lines if line.startswith("{")]


def paths(receiving: Collector) -> list[list[str]]:
    """The names of the spans above each span, and its own."""
    spans = {span.span_id: span for span in receiving.spans}

    def path(span: Span) -> list[str]:
        return [*(path(spans[span.parent_span_id]) if span.parent_span_id else []), span.name]

    return sorted(map(path, spans.values()))


def attributes(span: Span) -> dict[str, str]:
    """The texts of a span."""
    return {each.key: each.value.string_value for each in span.attributes}


SAY = ["RUN said", "step say", "attempt"]
COUNT = ["RUN said", "step count", "attempt"]
WHOLE = sorted(
    [SAY[:1], SAY[:2], SAY, [*SAY, "call"], [*SAY, "call", "mine"]] * 2
    + [COUNT[:2], COUNT, [*COUNT, "prep"], [*COUNT, "exec"], [*COUNT, "exec", "call"], [*COUNT, "post"]]
)


@pytest.mark.parametrize(
    ("executor", "provider"),
    [("process://?workers=1", "batch"), ("dask://local?workers=1", "simple")],
    ids=["process", "dask"],
)
def test_of_the_applications_provider(receiving: Collector, executor: str, provider: str) -> None:
    """Spans that a task makes elsewhere are in the run's trace, all arrive, and its lines have the context."""
    lines = lines_of(executor, OTEL_EXPORTER_OTLP_ENDPOINT=receiving.endpoint, PROVIDER=provider)

    bound = {"age": 36, "customer": "ada", "vip": True, "workflow": "said", "version": "2"}
    said = bound | {"attempt": 1, "event": "said", "here": False, "seq": 1, "state": "say"}
    assert [line for line in lines if line["event"] != "ended"] == [
        said | {"run_id": "one"},
        bound | {"attempt": 1, "event": "counted", "seq": 2, "state": "count", "run_id": "one"},
        said | {"run_id": "two"},
    ]
    assert paths(receiving) == WHOLE
    assert len({span.trace_id for span in receiving.spans}) == 2
    assert [attributes(span)["user"] for span in receiving.spans if span.name == "mine"] == ["ada", "ada"]
    calls = [span for span in receiving.spans if span.name == "call"]
    assert [span.kind for span in calls] == [Span.SPAN_KIND_SERVER] * 3
    assert {attributes(span)["cicd.worker.id"] for span in calls} == {attributes(calls[0])["cicd.worker.id"]}
    results = [attributes(span)["cicd.pipeline.task.run.result"] for span in calls]
    assert results == ["success", "success", "failure"]
    failed = calls[2]
    assert (attributes(failed)["error.type"], attributes(failed)["cicd.pipeline.run.id"]) == ("ValueError", "two")
    assert len(failed.events) == 0  # the attempt's span has the error


def test_of_the_plugins_own_provider(receiving: Collector) -> None:
    """Without a provider of the application, the plugin's own sends the span of each call when the worker ends."""
    lines_of("process://?workers=1", OTEL_EXPORTER_OTLP_ENDPOINT=receiving.endpoint, CANO_OTEL_FLUSH_TIMEOUT="30")

    assert paths(receiving) == [path for path in WHOLE if path[-1] != "mine"]


def test_no_span_finer_than_asked_for(receiving: Collector) -> None:
    """With coarser detail there is no span of a call, and the task's own span is below that of the run."""
    lines_of(
        "process://?workers=1",
        OTEL_EXPORTER_OTLP_ENDPOINT=receiving.endpoint, CANO_OTEL_DETAIL="run", PROVIDER="batch",
    )  # fmt: skip

    assert paths(receiving) == [["RUN said"], ["RUN said"], ["RUN said", "mine"], ["RUN said", "mine"]]


def test_nothing_is_traced() -> None:
    """Without a provider the context of the lines travels all the same."""
    lines = lines_of("process://?workers=1")

    assert [line["run_id"] for line in lines if line["event"] == "said"] == ["one", "two"]
