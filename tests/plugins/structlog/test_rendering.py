"""Log output of a program, by what it asks for: nothing, environment variables, or a configuration of structlog."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

PROGRAM = """
import sys
import structlog
from cano import TaskConfig, Workflow
flow = Workflow("a", name="w", default_config=TaskConfig.minimal()).add_exit_state("b")

@flow.on("a")
async def a(store):
    structlog.get_logger().info("mine", amount=3)
    return "b"

flow.orchestrate_sync({})
"""
FAILING = """
import sys
from cano import CanoError, TaskConfig, Workflow, current_step

class Once:
    def delay(self, attempt, error, elapsed):
        return 0.0 if attempt == 1 else None

flow = Workflow("a", name="w", default_config=TaskConfig(retry=Once())).add_exit_state("b")

@flow.on("a")
async def a(store):
    assert "structlog" not in sys.modules or current_step().attempt == 2
    store["n"] = 1 / 0

def run():
    try:
        flow.orchestrate_sync({"n": 0})
    except CanoError as error:
        print("failed")
"""
CONFIGURED = """
import sys
import structlog
structlog.configure([structlog.processors.JSONRenderer()], logger_factory=structlog.PrintLoggerFactory(sys.stderr))
"""


def output_of(program: str, **environment: str) -> tuple[list[str], list[str]]:
    """Return the lines on the program's stdout and stderr."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        encoding="utf-8",
        check=False,
        env={**os.environ, "CANO_BLOCK": "", **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), done.stderr.splitlines()


def events_of(program: str, **environment: str) -> list[str]:
    """Return the events on the program's stderr, in short."""
    _, lines = output_of(program, **environment)
    return [json.loads(line)["event"].removeprefix("cano.") for line in lines]


def test_nothing_but_failures_unless_asked() -> None:
    """A program that asks for nothing gets no line of a run that succeeds; its own lines go where it sends them."""
    (mine,), lines = output_of(PROGRAM)

    assert "mine" in mine
    assert "run_id=" in mine
    assert lines == []


def test_failures() -> None:
    """It gets the retries and failures of the others, whole. Until then structlog is not imported."""
    printed, lines = output_of(f"{FAILING}run()")
    retrying, failed, ended = map(json.loads, lines)

    assert printed == ["failed"]
    assert (retrying["event"], retrying["level"], retrying["delay_s"]) == ("cano.step.retrying", "warning", 0.0)
    assert (failed["event"], failed["level"], failed["attempt"]) == ("cano.step.failed", "error", 2)
    assert (ended["event"], ended["level"], ended["status"]) == ("cano.run.failed", "error", "failed")
    assert ended["traceback"].startswith('Traceback (most recent call last):\n  File "<string>", line ')
    for line in (retrying, failed, ended):
        assert (line["workflow"], line["version"], line["state"]) == ("w", "1", "a")
        assert line["error_type"] == "ZeroDivisionError"
        assert "division by zero" in line["error"]
    assert retrying["run_id"] == failed["run_id"] == ended["run_id"]


def test_it_costs_nothing_until_then() -> None:
    """Where no line is asked for, nothing listens to a step or to a run's start, and structlog is not imported."""
    program = (
        "import sys\nfrom cano import Kernel\nkernel = Kernel()\nkernel.load()\n"
        "hooks = ['run_started', 'run_parked', 'step_started', 'step_finished', 'transition_committed']\n"
        "print(*(hook for hook in hooks if getattr(kernel.hook, 'cano_' + hook).get_hookimpls()))\n"
        "print('structlog' in sys.modules)\n"
    )

    assert output_of(program, CANO_PLUGINS="structlog") == (["", "False"], [])
    assert output_of(program, CANO_PLUGINS="structlog", CANO_LOG="info")[0][0] != ""


RUN = ["run.started", "run.finished"]
STEP = ["step.started", "step.finished", "transition.committed"]
FAILURE = ["step.retrying", "step.failed", "run.failed"]


@pytest.mark.parametrize(
    ("before", "environment", "of_a_run", "of_a_failure"),
    [
        ("", {}, [], FAILURE),
        ("", {"CANO_LOG": "info"}, RUN, ["run.started", *FAILURE]),
        ("", {"CANO_LOG": "debug"}, [RUN[0], *STEP, RUN[1]], ["run.started", "step.started", *FAILURE]),
        ("", {"CANO_LOG": "error"}, [], FAILURE[1:]),
        ("", {"CANO_LOG": "off"}, [], []),
        ("", {"CANO_LOG": "off", "CANO_LOG_LEVELS": "run.failed=error"}, [], FAILURE[2:]),
        ("", {"CANO_LOG_LEVELS": "run.started=debug,step.failed=off"}, RUN[:1], [RUN[0], FAILURE[0], FAILURE[2]]),
        (CONFIGURED, {}, RUN, ["run.started", *FAILURE]),
        (CONFIGURED, {"CANO_LOG": "warning"}, [], FAILURE),
        (CONFIGURED, {"CANO_LOG": "off"}, [], []),
    ],
)
def test_which_setting_wins(
    before: str, environment: dict[str, str], of_a_run: list[str], of_a_failure: list[str]
) -> None:
    """CANO_LOG_LEVELS wins over CANO_LOG, that over the application's configuration, and that over the default."""
    works = 'structlog.get_logger().info("mine", amount=3)'
    program = before + PROGRAM.replace(works, "pass").replace("import structlog", "")
    failing = before + re.sub(r"    assert .*\n", "", FAILING)

    assert events_of(program, **environment) == of_a_run
    assert events_of(f"{failing}run()", **environment) == of_a_failure


def test_console() -> None:
    """The console format: one line per event followed by its context, without colours outside a terminal."""
    _, (started, finished) = output_of(PROGRAM, CANO_LOG="info", CANO_LOG_RENDER="console")

    assert "[info     ] cano.run.started" in started
    assert "state=a" in started
    assert "[info     ] cano.run.finished" in finished
    assert "\x1b" not in started + finished


def test_no_text_steers_the_console() -> None:
    """Ids and errors with escape sequences, line breaks or marks of direction are one line each, escaped."""
    evil = "x\\x1b[2J\\r\\nFORGED\\u202eend\\x9b1m"
    program = PROGRAM.replace('name="w"', f'name="{evil}"')
    _, lines = output_of(program, CANO_LOG="info", CANO_LOG_RENDER="console")

    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)
    assert all(evil in line for line in lines)


def test_through_the_standard_library() -> None:
    """Events go to the logger "cano", and obey its level and its handlers' format."""
    logs = "import logging\nlogging.basicConfig(level='INFO', format='%(levelname)s %(name)s %(message)s')\n"
    environment = {"CANO_LOG": "info", "CANO_LOG_STDLIB": "1", "CANO_LOG_RENDER": "json"}
    _, lines = output_of(logs + PROGRAM, **environment)
    heads = [line.partition("{")[0] for line in lines]
    events = [json.loads("{" + line.partition("{")[2]) for line in lines]

    assert heads == ["INFO cano "] * 2
    assert [event["event"] for event in events] == ["cano.run.started", "cano.run.finished"]
    assert len({event["run_id"] for event in events}) == 1
    quiet = f"{logs}logging.getLogger('cano').setLevel('ERROR')\n{PROGRAM}"
    assert output_of(quiet, **environment)[1] == []
