"""The expected log lines and spans of one workflow with a branch, retry, timeout, split, sub-workflow and crash."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).with_name("golden.py")
CRASHED, WELL = 9, 0

# event, state, attempt, branch, and the span that the line is in
EVENTS = """
    run.started            CHOOSE 1 -     RUN golden
    step.started           CHOOSE 1 -     attempt 1
    step.finished          CHOOSE 1 -     attempt 1
    transition.committed   CHOOSE 1 -     RUN golden
    step.started           FETCH  1 -     attempt 1
    step.retrying          FETCH  1 -     attempt 1
    step.finished          FETCH  2 -     attempt 2
    transition.committed   FETCH  2 -     RUN golden
    step.started           SLOW   1 -     attempt 1
    step.retrying          SLOW   1 -     attempt 1
    step.finished          SLOW   2 -     attempt 2
    transition.committed   SLOW   2 -     RUN golden
    step.started           SPLIT  1 -     attempt 1
    step.started           SPLIT  1 0:one attempt 1
    step.finished          SPLIT  1 0:one attempt 1
    step.started           SPLIT  1 1:two attempt 1
    step.finished          SPLIT  1 1:two attempt 1
    step.finished          SPLIT  1 -     attempt 1
    transition.committed   SPLIT  1 -     RUN golden
    step.started           SUB    1 -     attempt 1
    run.started            ONLY   1 -     RUN child
    step.started           ONLY   1 -     attempt 1
    step.finished          ONLY   1 -     attempt 1
    transition.committed   ONLY   1 -     RUN child
    run.finished           END    1 -     RUN child
    step.finished          SUB    1 -     attempt 1
    transition.committed   SUB    1 -     RUN golden
    step.started           CRASH  1 -     lost
    run.started            CRASH  1 -     RUN golden
    step.started           CRASH  1 -     attempt 1
    step.finished          CRASH  1 -     attempt 1
    transition.committed   CRASH  1 -     RUN golden
    run.finished           DONE   1 -     RUN golden
"""

# each span as it ends: its name, how it ended, and its parent
SPANS = """
    attempt 1    success  step CHOOSE
    step CHOOSE  success  RUN golden
    attempt 1    failure  step FETCH
    attempt 2    success  step FETCH
    step FETCH   success  RUN golden
    attempt 1    timeout  step SLOW
    attempt 2    success  step SLOW
    step SLOW    success  RUN golden
    attempt 1    success  branch one
    branch one   success  attempt 1
    attempt 1    success  branch two
    branch two   success  attempt 1
    attempt 1    success  step SPLIT
    step SPLIT   success  RUN golden
    attempt 1    success  step ONLY
    step ONLY    success  RUN child
    RUN child    success  attempt 1
    attempt 1    success  step SUB
    step SUB     success  RUN golden
    attempt 1    success  step CRASH
    step CRASH   success  RUN golden
    RUN golden   success  -
"""


def lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.strip().splitlines()]


def name(span: dict[str, Any]) -> str:
    number = span["attributes"].get("cano.attempt.number")
    return str(span["name"]) if number is None else f"{span['name']} {number}"


@pytest.fixture(scope="module", params=["async", "sync"])
def observed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The log lines and the spans of both processes, in order."""
    folder = tmp_path_factory.mktemp("golden")
    log: list[dict[str, Any]] = []
    for expected in (CRASHED, WELL):
        done = subprocess.run(
            [sys.executable, "-W", "error", PROGRAM, request.param, folder],
            env={**os.environ, "CANO_BLOCK": ""},
            capture_output=True,
            encoding="utf-8",
            timeout=100,
            check=False,
        )
        assert done.returncode == expected, done.stderr
        log += map(json.loads, done.stderr.splitlines())
    spans = [json.loads(line) for line in (folder / "spans.jsonl").read_text(encoding="utf-8").splitlines()]
    return log, spans


def named_ids(spans: list[dict[str, Any]]) -> dict[str, str]:
    """Return span names by id. The crashed segment's root was never sent; its id comes from the next segment's link."""
    ids = {span["context"]["span_id"]: name(span) for span in spans}
    ids |= {link["context"]["span_id"]: span["name"] for span in spans for link in span["links"]}
    return ids


def test_events(observed: Any) -> None:
    """The log has the golden sequence, each line in its span; it is the same for coroutines and plain functions."""
    log, spans = observed
    ids = named_ids(spans)
    seen = [
        f"{line['event'].removeprefix('cano.')} {line['state']} {line.get('attempt', 1)} {line.get('branch', '-')} "
        + ids.get(f"0x{line['span_id']}", "lost")
        for line in log
    ]

    assert seen == lines(EVENTS)


def test_spans(observed: Any) -> None:
    """The spans have the golden sequence; no parent is missing, and none is there twice."""
    _, spans = observed
    ids = named_ids(spans)
    results = ("cicd.pipeline.result", "cicd.pipeline.task.run.result")
    seen = [
        f"{name(span)} {next(filter(None, map(span['attributes'].get, results)))} "
        + ("-" if span["parent_id"] is None else ids.get(span["parent_id"], "missing"))
        for span in spans
    ]

    assert seen == lines(SPANS)
    assert len({span["context"]["span_id"] for span in spans}) == len(spans)


def test_the_segment_after_the_crash_links_to_the_one_before(observed: Any) -> None:
    """Each process's spans are one trace. The second root links to the first, which was never sent."""
    log, spans = observed
    root = spans[-1]
    before, after = (root["links"][0]["context"]["trace_id"], root["context"]["trace_id"])

    assert [link["attributes"] for link in root["links"]] == [{"cano.link": "earlier"}]
    assert [span["context"]["trace_id"] for span in spans] == [before] * 19 + [after] * 3
    assert [f"0x{line['trace_id']}" for line in log] == [before] * 28 + [after] * 5


def test_no_line_has_anothers_id(observed: Any) -> None:
    """Lines and spans of the child carry its id, and all others the parent's."""
    log, spans = observed

    for line in log:
        assert line["run_id"] == ("golden:5/child" if line["workflow"] == "child" else "golden")
    for span in spans:
        workflow = span["attributes"].get("cicd.pipeline.name")
        if workflow is not None:
            expected = "golden:5/child" if workflow == "child" else "golden"
            assert span["attributes"]["cicd.pipeline.run.id"] == expected
