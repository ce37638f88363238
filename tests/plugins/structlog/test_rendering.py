"""Log output of a program that does not configure structlog, by environment variables."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

PROGRAM = """
import logging, sys
import structlog
from cano import Workflow
logging.basicConfig(level="INFO", format="%(levelname)s %(name)s %(message)s")
flow = Workflow("a", name="w").add_exit_state("b")

@flow.on("a")
async def a(store):
    structlog.get_logger().warning("mine", amount=3)
    return "b"

flow.orchestrate_sync({})
"""


def lines_of(program: str = PROGRAM, **environment: str) -> list[str]:
    """Return the program's stderr."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        encoding="utf-8",
        check=False,
        env={**os.environ, "CANO_BLOCK": "", **environment},
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    return done.stderr.splitlines()


def test_console() -> None:
    """The console format: one line per event followed by its context, without colours outside a terminal."""
    started, mine, finished = lines_of(CANO_LOG_RENDER="console")

    assert "[info     ] cano.run.started" in started
    assert "[warning  ] mine" in mine
    assert "amount=3" in mine
    assert "state=a" in mine
    assert "[info     ] cano.run.finished" in finished
    assert "\x1b" not in started + mine + finished


def test_no_text_steers_the_console() -> None:
    """Ids and errors with escape sequences, line breaks or marks of direction are one line each, escaped."""
    evil = "x\\x1b[2J\\r\\nFORGED\\u202eend\\x9b1m"
    program = PROGRAM.replace('name="w"', f'name="{evil}"').replace("warning(", f'warning("{evil}"+')
    lines = lines_of(program, CANO_LOG_RENDER="console")

    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)
    assert all(evil in line for line in lines)


def test_the_lowest_level() -> None:
    """At level debug steps are logged; at level error only errors are."""
    debug = [json.loads(line)["event"] for line in lines_of(CANO_LOG_LEVEL="debug")]

    assert debug == [
        "cano.run.started",
        "cano.step.started",
        "mine",
        "cano.step.finished",
        "cano.transition.committed",
        "cano.run.finished",
    ]
    assert lines_of(CANO_LOG_LEVEL="error") == []


def test_through_the_standard_library() -> None:
    """Events go to the logger "cano", and obey its level and its handlers' format."""
    lines = lines_of(CANO_LOG_STDLIB="1", CANO_LOG_RENDER="json")
    heads = [line.partition("{")[0] for line in lines]
    events = [json.loads("{" + line.partition("{")[2]) for line in lines]

    assert heads == ["INFO cano ", "WARNING __main__ ", "INFO cano "]
    assert [event["event"] for event in events] == ["cano.run.started", "mine", "cano.run.finished"]
    assert len({event["run_id"] for event in events}) == 1
    quiet = PROGRAM.replace("flow.orch", 'logging.getLogger("cano").setLevel("ERROR")\nflow.orch')
    assert len(lines_of(quiet, CANO_LOG_STDLIB="1")) == 1
