"""The service with correlated logs and traces, and the export over OTLP."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from collections.abc import Callable

RunPython = Callable[..., subprocess.CompletedProcess[str]]
CALLER = "0af7651916cd43dd8448eb211c80319c"


def test_logs_and_traces_of_a_request_are_joined(run_example: RunPython) -> None:
    """Each request has a trace that contains all its log lines; the third trace is the caller's."""
    done = run_example("service")
    assert done.returncode == 0, done.stderr
    answers = [line.split() for line in done.stdout.splitlines()[:3]]
    log = [json.loads(line) for line in done.stderr.splitlines()]

    assert [answer[:2] for answer in answers] == [["201", "DONE"], ["422", "REJECTED"], ["201", "DONE"]]
    traces = [answer[-1] for answer in answers]
    assert len(set(traces)) == 3
    assert traces[2] == CALLER
    events = {
        trace: [line["event"].removeprefix("cano.") for line in log if line["trace_id"] == trace] for trace in traces
    }
    begin, end = "run.started", "run.finished"
    assert list(events.values()) == [
        [begin, "weighed in a thread", "reserved", end],
        [begin, "unknown items", end],
        [begin, "weighed in a thread", "step.retrying", "reserved", end],
    ]
    assert len({(line["trace_id"], line["run_id"]) for line in log}) == 3


def test_the_span_tree_of_a_request(run_example: RunPython) -> None:
    """The tree reaches from the request to the task's own span and shows the failed attempt."""
    lines = [re.sub(r" \d[\d.]* (µs|ms|s)", "", line) for line in run_example("service").stdout.splitlines()[3:]]

    assert lines.count("POST /orders") == 3
    last = lines[len(lines) - 1 - lines[::-1].index("POST /orders") :]
    assert last == [
        "POST /orders",
        "└── RUN order",
        "    ├── step CHECK",
        "    │   └── attempt 1",
        "    ├── step PRICE",
        "    │   └── attempt 1",
        "    │       ├── branch 0:add_up",
        "    │       │   └── attempt 1",
        "    │       └── branch 1:weigh",
        "    │           └── attempt 1",
        "    └── step RESERVE",
        "        ├── attempt 1 failure: ConnectionError",
        "        │   └── ask the warehouse",
        "        └── attempt 2",
        "            └── ask the warehouse",
    ]


def test_export_over_otlp(output_of: Callable[..., list[str]]) -> None:
    """The collector receives each step once, and all metrics of the runs."""
    first, *spans, metrics = output_of("otlp_export")
    counts = Counter({name: int(count) for count, name in re.findall(r"(\d+) spans '(.*?)'", "\n".join(spans))})
    steps = sum(count for name, count in counts.items() if name.startswith("step "))

    assert re.match(rf"7 runs with {steps} steps were sent to http://127\.0\.0\.1:\d+$", first)
    assert (counts["RUN collatz"], counts["attempt"]) == (7, steps)
    assert {"cano.run.started", "cicd.pipeline.run.duration", "cano.step.duration"} <= set(
        metrics.removeprefix("metrics ").split(", ")
    )
