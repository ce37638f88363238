"""`cano recover`: taking over what can go on."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

pytestmark = pytest.mark.usefixtures("store")

Cano = Callable[..., Result]
Write = Callable[[str, str], Path]
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def stop(cano: Cano, project: Path, store: str) -> Callable[..., None]:
    """Begin an order that is interrupted while it is being paid."""

    def stop(run_id: str, *args: str) -> None:
        (project / "stop").touch()
        cano("run", "shop", "--run-id", run_id, *args)

    return stop


def test_nothing_to_recover(cano: Cano) -> None:
    """Where nothing can go on, nothing is done."""
    result = cano("recover", "shop", "flows")

    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "took over 0 runs\n")


def test_recover(cano: Cano, stop: Callable[..., None]) -> None:
    """Every run goes on to its end, or to where it waits, and how it ended is told."""
    stop("r1")
    stop("r2", "--data", "wait=1")

    result = cano("recover", "shop")

    assert result.exit_code == 0
    assert result.stderr == "took over 2 runs\n"
    assert sorted(result.stdout.splitlines()) == [
        "run r1 of shop succeeded in shipped after 3 steps",
        "run r2 of shop parked after 2 steps: waits for signal 'approved', then ship",
    ]
    assert cano("recover", "shop").stderr == "took over 0 runs\n"


def test_one_after_the_other(cano: Cano, stop: Callable[..., None], project: Path) -> None:
    """With `--concurrency 1` every run is resumed, each after the end of the one before."""
    for number in range(4):
        stop(f"r{number}")
    (project / "journal").unlink()

    result = cano("recover", "shop", "--concurrency", "1")

    assert (result.exit_code, result.stderr) == (0, "took over 1 run\n")
    assert sorted(result.stdout.splitlines()) == [
        f"run r{number} of shop succeeded in shipped after 3 steps" for number in range(4)
    ]
    assert (project / "journal").read_text().split() == ["pay", "ship"] * 4


def test_one_after_the_other_beside_a_stuck_run(
    start: Start, stop: Callable[..., None], project: Path, write: Write
) -> None:
    """A run that cannot go on takes no place, is told, and makes the exit code 1."""
    for run_id in ("r1", "r2"):
        stop(run_id)
    write("later.py", (project / "shop.py").read_text().replace('name="shop"', 'name="shop", version="2"'))

    process = start("recover", "later", "--concurrency", "1")
    out, err = process.communicate()

    assert (process.returncode, out) == (1, "")
    assert "took over 0 runs\n2 runs could not be resumed\n" in err


def test_concurrency_of_nothing(cano: Cano) -> None:
    """At least one run can be executed."""
    assert cano("recover", "shop", "--concurrency", "0").exit_code == 2


def test_recover_as_json(cano: Cano, stop: Callable[..., None], project: Path) -> None:
    """A line of JSON for each; what tasks print goes to stderr. One that fails makes the exit code 1."""
    stop("r1")
    (project / "broken").touch()

    result = cano("recover", "shop", "--json")

    assert result.exit_code == 1
    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {
            "run_id": "r1",
            "workflow": "shop",
            "status": "failed",
            "state": "pay",
            "steps": 1,
            "note": "TaskError: task 'pay' failed: ValueError: no money",
        }
    ]


def test_changed_definition(start: Start, stop: Callable[..., None], project: Path, write: Write) -> None:
    """A run that cannot go on under the present definition is named with the reason, and left; the exit code is 1."""
    stop("r1")
    write("later.py", (project / "shop.py").read_text().replace('name="shop"', 'name="shop", version="2"'))

    process = start("recover", "later")
    out, err = process.communicate()

    assert (process.returncode, out) == (1, "")
    assert "took over 0 runs\n1 run could not be resumed\n" in err
    assert (
        "Warning: run r1 cannot continue: run r1 was begun under another definition of workflow 'shop':\n"
        "    - its version was '1', this one is '2'\n"
        "  Finish it with the old program, or define "
    ) in err


def test_two_of_one_name(cano: Cano, project: Path, write: Write) -> None:
    """Two workflows of one name cannot both own a run."""
    write("other.py", (project / "shop.py").read_text())

    result = cano("recover", "shop", "other")

    assert result.exit_code == 2
    assert result.stderr == (
        "Error: two of these workflows have the name 'shop', so a run could belong to either; "
        "give each its own: Workflow(…, name=…)\n"
    )


def test_left_to_its_holder(start: Start, cano: Cano, project: Path) -> None:
    """A run that another process drives is held by it, which is told."""
    (project / "hold").touch()
    process = start("run", "shop", "--run-id", "r1", "--lease", "60")
    assert process.stdout is not None
    assert process.stdout.readline() == "paying\n"

    result = cano("recover", "shop")

    assert result.exit_code == 0
    assert result.stderr.startswith("took over 0 runs\nrun r1 is held by ")
    assert process.poll() is None


def test_task_that_exits(cano: Cano, project: Path, write: Write) -> None:
    """A task that calls sys.exit() ends neither the command nor, as if all were well, the run."""
    shop = (project / "shop.py").read_text()
    write("shop.py", shop.replace('raise ValueError("no money")', "raise SystemExit(0)"))
    (project / "broken").touch()
    cano("run", "shop", "--run-id", "r1")

    result = cano("recover", "shop")

    assert result.exit_code == 1
    assert "Error: a task called sys.exit(0), which ends the program" in result.stderr


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_watch(start: Start, cano: Cano, stop: Callable[..., None], project: Path, how: signal.Signals) -> None:
    """With `--watch` it stays, and takes over what can go on later; Ctrl-C and SIGTERM are its proper end."""
    stop("r1", "--data", "wait=1")
    process = start("recover", "shop", "--watch", "--json")
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    cano("signal", "r1", "approved")
    second = json.loads(process.stdout.readline())
    stop("r2")
    third = json.loads(process.stdout.readline())

    process.send_signal(how)
    out, err = process.communicate()

    assert [(told["run_id"], told["status"]) for told in (first, second, third)] == [
        ("r1", "parked"),
        ("r1", "succeeded"),
        ("r2", "succeeded"),
    ]
    assert (process.returncode, out) == (0, "")
    assert err.endswith("took over 1 run\nStopped.\n")


def test_stopped(start: Start, stop: Callable[..., None], cano: Cano, project: Path) -> None:
    """Ctrl-C lets runs that end soon end; a second one interrupts them, and others may have them at once."""
    stop("r1")
    (project / "hold").touch()
    process = start("recover", "shop")
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "paying\n"
    assert process.stderr.readline() == "took over 1 run\n"

    process.send_signal(signal.SIGINT)
    assert process.stderr.readline().startswith("Stopping: 10 s for 1 active run to finish; ")
    process.send_signal(signal.SIGINT)
    process.communicate()

    assert process.returncode == 130
    assert json.loads(cano("explain", "r1", "--json").stdout)["reason"] == "INTERRUPTED"
