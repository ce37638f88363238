"""Exports of a process that is stopped by SIGTERM, to a working collector and to one that never answers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.observability.exporting import HANGING, RUNS
from tests.acceptance.observability.receiver import Collector, collector

PROGRAM = Path(__file__).with_name("exporting.py")


@pytest.fixture
def receiving() -> Iterator[Collector]:
    """A collector that listens."""
    with collector() as receiving:
        yield receiving


@pytest.fixture
def dead() -> Iterator[str]:
    """An endpoint that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def run_and_terminate(endpoint: str, **environment: str) -> tuple[int, str, str]:
    """The service, stopped by SIGTERM as soon as its runs have ended: exit code and output."""
    process = subprocess.Popen(
        [sys.executable, PROGRAM],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, **environment},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=60)
        return process.returncode, output, errors
    finally:
        process.kill()
        process.wait()


def test_nothing_is_lost_on_sigterm(receiving: Collector) -> None:
    """The root spans of 100 runs, also of those that were cut short, all arrive once, each with its step."""
    code, output, errors = run_and_terminate(receiving.endpoint, CANO_OTEL_FLUSH_TIMEOUT="30")

    assert (code, output, errors) == (0, "stopping\nstopped\n", "")
    runs = receiving.runs("service")
    ids = {
        value.value.string_value for span in runs for value in span.attributes if value.key == "cicd.pipeline.run.id"
    }
    status = Counter(
        value.value.string_value for span in runs for value in span.attributes if value.key == "cano.run.status"
    )
    assert (len(runs), len(ids)) == (RUNS, RUNS)
    assert sum(status.values()) == RUNS
    assert status["succeeded"] == RUNS - HANGING
    assert Counter(span.name for span in receiving.spans) == {"RUN service": RUNS, "step a": RUNS, "attempt": RUNS}
    known = {span.span_id for span in receiving.spans}
    assert [span.name for span in receiving.spans if span.parent_span_id and span.parent_span_id not in known] == []
    assert {"cano.run.started", "cicd.pipeline.run.duration", "cano.step.duration"} <= receiving.metrics


def test_a_dead_collector_does_not_block_the_process(dead: str) -> None:
    """With a collector that never answers, the process ends after the limit and logs a warning.

    The exporter itself would wait for an hour.
    """
    code, output, errors = run_and_terminate(dead, CANO_OTEL_FLUSH_TIMEOUT="0.5", OTEL_EXPORTER_OTLP_TIMEOUT="3600")

    assert (code, output) == (0, "stopping\nstopped\n")
    assert "could not all be sent within 0.5 s" in errors


@pytest.mark.parametrize("answers", [True, False], ids=["a collector", "a dead one"])
def test_the_command_exports(receiving: Collector, dead: str, tmp_path: Path, answers: bool) -> None:
    """`cano run` sends its run, or gives up after the limit; it takes no thread of the exporter for a task's."""
    file = tmp_path / "flows.py"
    file.write_text(
        "from cano import Workflow\n"
        "flow = Workflow('a', name='flow').add_exit_state('b')\n"
        "flow.register('a', lambda store: 'b')\n"
    )
    environment = {
        "CANO_BLOCK": "structlog",
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiving.endpoint if answers else dead,
        "OTEL_EXPORTER_OTLP_TIMEOUT": "3600",
        "CANO_OTEL_FLUSH_TIMEOUT": "30" if answers else "0.5",
    }
    done = subprocess.run(
        [sys.executable, "-c", "from cano_cli.main import main; main()", "run", f"{file}:flow"],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=60,
        check=False,
    )

    given_up = (
        "traces or metrics could not all be sent within 0.5 s, and the rest may be lost; "
        "to wait longer, raise CANO_OTEL_FLUSH_TIMEOUT\n"
    )
    assert (done.returncode, done.stderr) == (0, "" if answers else given_up)
    assert [span.name for span in receiving.runs("flow")] == (["RUN flow"] if answers else [])


@pytest.mark.parametrize("signal_", ["traces", "metrics"])
def test_only_what_is_asked_for(receiving: Collector, signal_: str) -> None:
    """An endpoint for one of the two asks for that one."""
    path = f"{receiving.endpoint}/v1/{signal_}"
    code, _, errors = run_and_terminate(
        "", **{f"OTEL_EXPORTER_OTLP_{signal_.upper()}_ENDPOINT": path}, CANO_OTEL_FLUSH_TIMEOUT="30"
    )

    assert (code, errors) == (0, "")
    assert (bool(receiving.spans), bool(receiving.metrics)) == (signal_ == "traces", signal_ == "metrics")
