"""Each of the two plugins works if the other one and its library are not installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys

PROGRAM = """
import sys
for name in sys.argv[1:]:
    sys.modules[name] = None  # as if it were not installed
from cano import Workflow
flow = Workflow("a", name="w").add_exit_state("b")

@flow.on("a")
async def a(store):
    return "b"

flow.orchestrate_sync({})
"""


def run(*missing: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The program, without the packages that are missing."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, *missing],
        capture_output=True,
        encoding="utf-8",
        check=False,
        env={**os.environ, **environment},
    )


def test_logs_without_opentelemetry() -> None:
    """Lines have all their keys but those of a trace."""
    done = run("opentelemetry", "cano_otel", CANO_BLOCK="otel", CANO_LOG="info")
    lines = [json.loads(line) for line in done.stderr.splitlines()]

    assert done.returncode == 0, done.stderr
    assert [line["event"] for line in lines] == ["cano.run.started", "cano.run.finished"]
    assert all("run_id" in line and "trace_id" not in line for line in lines)


def test_traces_without_structlog() -> None:
    """Spans are exported as ever."""
    done = run("structlog", "cano_structlog", CANO_BLOCK="structlog", OTEL_TRACES_EXPORTER="console")

    assert (done.returncode, done.stderr) == (0, "")
    assert [line.strip() for line in done.stdout.splitlines() if line.startswith('    "name"')] == [
        '"name": "attempt",',
        '"name": "step a",',
        '"name": "RUN w",',
    ]


def test_both_together() -> None:
    """Lines carry the ids of the run's span."""
    done = run(CANO_BLOCK="", CANO_LOG="info", OTEL_TRACES_EXPORTER="console")
    lines = [json.loads(line) for line in done.stderr.splitlines()]

    assert done.returncode == 0, done.stderr
    assert len(lines) == 2
    assert len({(line["trace_id"], line["span_id"]) for line in lines}) == 1
    assert all(f'"span_id": "0x{line["span_id"]}"' in done.stdout for line in lines)
