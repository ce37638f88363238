"""`--executor`: where the commands that execute runs execute their tasks."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Cano = Callable[..., Result]
TASKS = """
import os
from cano import TaskConfig, Workflow

def work(store):
    if store.get("fails", bool, False) and not os.path.exists("mended"):
        raise ValueError("not yet")
    store["pid"] = os.getpid()
    return "DONE"

flow = Workflow("WORK", name="work", default_config=TaskConfig(executor="cpu", retry="none"))
flow.register("WORK", work).add_exit_state("DONE")
"""


@pytest.fixture(autouse=True)
def tasks(write: Callable[[str, str], Path]) -> Path:
    """A workflow whose task names an executor."""
    return write("jobs.py", TASKS)


def pid(result: Result) -> int:
    """The process that executed the task."""
    assert result.exit_code == 0, result.output
    return int(json.loads(result.stdout)["data"]["pid"])


def test_run(cano: Cano, monkeypatch: pytest.MonkeyPatch) -> None:
    """The option names a URL, or this process; the variable does the same for all commands."""
    assert pid(cano("run", "jobs:flow", "--json", "--executor", "cpu=process://?workers=1")) != os.getpid()
    assert pid(cano("run", "jobs:flow", "--json", "--executor", "cpu=")) == os.getpid()
    monkeypatch.setenv("CANO_EXECUTOR", "gpu= cpu=process://?workers=1")
    assert pid(cano("run", "jobs:flow", "--json")) != os.getpid()


def test_resume_and_recover(cano: Cano, tmp_path: Path) -> None:
    """A failed run is resumed in another process; `recover` and `worker` take the option, too."""
    given = ("--store", "sqlite:///runs.db", "--executor", "cpu=process://?workers=1")
    failed = cano("run", "jobs:flow", "--data", "fails=true", "--run-id", "r", *given)
    assert "not yet" in failed.output
    Path("mended").touch()
    assert pid(cano("resume", "jobs:flow", "r", "--json", *given)) != os.getpid()
    assert cano("recover", "jobs:flow", *given).exit_code == 0
    assert "--executor" in cano("worker", "--help").output


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("process://", "'process://' is not NAME=URL; write the name that TaskConfig(executor=…) has"),
        ("cpu", "'cpu' is not NAME=URL"),
        ("cpu=proces://", "did you mean 'process"),
        ("cqu=process://", "executor 'cpu' is unknown (did you mean 'cqu'?)"),
    ],
)
def test_wrong_values(cano: Cano, value: str, problem: str) -> None:
    """The error says what is wrong, and what to write."""
    result = cano("run", "jobs:flow", "--executor", value)

    assert result.exit_code == 2
    assert problem in " ".join(result.output.split())


def test_validate(cano: Cano) -> None:
    """Without the executor that a task names, the workflow cannot be bound; the error names the option."""
    assert "--executor NAME=URL" in cano("validate", "jobs:flow").output
    assert cano("validate", "jobs:flow", "--executor", "cpu=").exit_code == 0
