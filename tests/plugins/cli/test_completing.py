"""What a shell offers as the next word."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cano_cli.main import make_app
from click.shell_completion import ShellComplete
from click.testing import Result

Cano = Callable[..., Result]
EVIL = "e\x1b[2J\nplain,forged"


def offered(*words: str) -> list[str]:
    """The words that may be the last of these, which has been begun."""
    *before, start = words
    found = ShellComplete(make_app(), {}, "cano", "_CANO_COMPLETE").get_completions(before, start)
    return [item.value for item in found]


@pytest.fixture
def filled(cano: Cano, project: Path, store: str) -> None:
    """A finished run, a parked one and one with an id that could speak to a terminal."""
    cano("run", "shop", "--run-id", "fine")
    (project / "stop").touch()
    cano("run", "shop", "--run-id", "waits too", "--data", "wait=1")
    cano("recover", "shop")
    cano("run", "flows", "--run-id", EVIL)


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("command", ["show", "explain", "cancel", "delete", "fork", "audit"])
def test_run_ids(command: str) -> None:
    """Runs are offered by the beginnings of their ids, as words of a shell."""
    assert offered(command, "f") == ["fine"]
    assert offered(command, "") == [r"$'e\x1b[2J\nplain,forged'", "'waits too'", "fine"]


@pytest.mark.usefixtures("filled")
def test_names() -> None:
    """Signals that runs wait for, workflows, steps with their states, and statuses."""
    assert offered("signal", "") == ["'waits too'"]
    assert offered("signal", "waits too", "") == offered("signal", "unknown", "") == ["approved"]
    assert offered("signal", "waits too", "x") == []
    assert offered("fork", "fine", "") == ["0", "1", "2", "3"]
    assert offered("runs", "--workflow", "s") == offered("top", "--workflow", "s") == ["shop"]
    assert offered("runs", "--status", "pa") == ["parked"]
    assert offered("--store", "x", "sho") == offered("sho") == ["show"]


@pytest.mark.usefixtures("filled")
def test_the_store_is_found(cano: Cano, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the option, or by the environment. Without a store, or with a wrong one, there is nothing to offer."""
    monkeypatch.delenv("CANO_STORE")
    assert offered("show", "--store", "sqlite:///runs.db", "f") == ["fine"]
    for options in ([], ["--store", "nosuch://"], ["--store", "sqlite:///none.db"]):
        assert offered("show", *options, "f") == []
    assert not Path("none.db").exists()
    assert offered("--namespace", "other", "show", "--store", "sqlite:///runs.db", "f") == []


@pytest.mark.usefixtures("filled")
def test_in_a_process() -> None:
    """The shell's function asks the command; what it prints is one line for each word, whatever the ids are."""
    words = {"_CANO_COMPLETE": "bash_complete", "COMP_WORDS": "cano show ", "COMP_CWORD": "2"}
    command = [sys.executable, "-W", "error", "-c", "from cano_cli.main import main; main()"]
    done = subprocess.run(command, env={**os.environ, **words}, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [r"plain,$'e\x1b[2J\nplain,forged'", "plain,'waits too'", "plain,fine"]
