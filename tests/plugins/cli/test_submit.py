"""`cano submit` and `cano worker`: what they print. tests/acceptance/durability/test_submitted.py kills workers."""

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


def test_a_submitted_run_is_not_executed(cano: Cano, project: Path) -> None:
    """Its id is printed; all commands that look show that it is queued; `run` with the id executes it."""
    assert cano("submit", "shop", "--id", "r1").stdout == "r1\n"
    assert not (project / "journal").exists()
    (row,) = json.loads(cano("runs", "--status", "queued", "--json").stdout)
    assert (row["run_id"], row["status"], row["holder"]) == ("r1", "queued", None)
    assert "waits for a worker" in cano("runs").stdout
    assert json.loads(cano("show", "r1", "--json").stdout)["status"] == "queued"
    assert cano("explain", "r1").stdout == (
        "it waits for a worker: in queue default; 0 runs of its lane or a larger priority before it; "
        "to begin it: cano worker MODULE:FLOW\n"
    )
    assert cano("check").exit_code == 0
    assert cano("delete", "r1").exit_code == 1
    assert cano("run", "shop", "--run-id", "r1").exit_code == 0
    assert json.loads(cano("submit", "shop", "--id", "r1", "--json").stdout) == {
        "run_id": "r1", "workflow": "shop", "status": "succeeded",
    }  # fmt: skip


def test_submitting_again(cano: Cano) -> None:
    """The same data is the same run; other data is refused, and so is a flow that does not exist."""
    for _ in range(2):
        assert cano("submit", "shop", "--id", "r1", "--data", "n=1").stdout == "r1\n"
    other = cano("submit", "shop", "--id", "r1", "--data", "n=2")
    assert (other.exit_code, other.stdout) == (2, "")
    assert "it began with other data" in other.stderr
    assert cano("submit", "nowhere").exit_code == 2


def test_a_queue(cano: Cano, start: Start) -> None:
    """A run's place in the queues is shown; a worker of one queue executes its runs only, by priority."""
    for run_id, queue, priority in (("r1", "slow", "1"), ("r2", "mail", "1"), ("r3", "mail", "2")):
        cano("submit", "shop", "--id", run_id, "--queue", queue, "--priority", priority, "--key", "x")
    assert "queue:     mail, priority 2, key 'x'\n" in cano("show", "r3").stdout
    lane = {"queue": "mail", "priority": 1, "key": "x"}
    assert json.loads(cano("show", "r2", "--json").stdout)["lane"] == lane
    assert cano("submit", "shop", "--queue", "a,b").exit_code == 2
    assert cano("worker", "shop", "--queues", "a,,b").exit_code == 2
    process = start("worker", "shop", "--queues", "mail, other", "--concurrency", "1", "--json")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["queues"] == ["mail", "other"]

    def ended() -> list[str]:
        return [run["run_id"] for run in json.loads(cano("runs", "--status", "succeeded", "--json").stdout)]

    while len(ended()) < 2:
        pass
    process.send_signal(signal.SIGTERM)
    assert json.loads(process.communicate()[0])["begun"] == 2
    assert sorted(ended()) == ["r2", "r3"]


def test_a_delay(cano: Cano) -> None:
    """A delayed run is parked, and `explain` says for how long."""
    cano("submit", "shop", "--id", "r1", "--delay", "2h")
    assert (
        cano("explain", "r1").stdout == "it was submitted, and begins after its delay: for 120 minutes more, in take\n"
    )
    assert json.loads(cano("runs", "--json").stdout)[0]["status"] == "parked"


def test_many(cano: Cano, write: Write) -> None:
    """Each line is a run with its own id. A wrong line ends the command; corrected, it submits what is missing."""
    write("rows.jsonl", '{"n": 1}\n\n{"n": 2}\noops\n')
    wrong = cano("submit", "shop", "--many", "rows.jsonl", "--id", "row", "--data", "all=1")
    assert wrong.exit_code == 2
    assert "rows.jsonl:4:1: not JSON" in wrong.stderr
    assert "repeat the command with the same --id" in wrong.stderr
    write("rows.jsonl", '{"n": 1}\n\n{"n": 2}\n{"n": 3}\n')
    for _ in range(2):
        right = cano("submit", "shop", "--many", "rows.jsonl", "--id", "row", "--data", "all=1")
        assert (right.exit_code, right.stdout) == (0, "submitted 3 runs\n")
    assert json.loads(cano("submit", "shop", "--many", "rows.jsonl", "--json").stdout) == {
        "workflow": "shop", "submitted": 3,
    }  # fmt: skip
    found = json.loads(cano("runs", "--json").stdout)
    assert len(found) == 6
    assert {run["run_id"] for run in found} >= {"row-1", "row-2", "row-3"}
    assert json.loads(cano("show", "row-3", "--json").stdout)["data"] == {"all": 1, "n": 3}


def test_a_worker_tells_its_start_and_its_end(cano: Cano, start: Start) -> None:
    """It prints a line at each, and executes what was submitted in between; Ctrl-C is no failure."""
    cano("submit", "shop", "--id", "r1")
    process = start("worker", "shop", "--health", "0")
    assert process.stderr is not None
    first = process.stderr.readline()
    assert first.startswith(f"worker {process.pid}: up to 10 runs of shop in ")
    assert "; health: http://127.0.0.1:" in first
    while json.loads(cano("runs", "--json").stdout)[0]["status"] != "succeeded":
        pass
    process.send_signal(signal.SIGINT)
    assert process.communicate()[1] == f"worker {process.pid} ended: 1 run begun, 1 succeeded\n"
    assert process.returncode == 0


def test_a_worker_prints_json(start: Start) -> None:
    """With --json its start and its end are lines of JSON on stdout."""
    process = start("worker", "shop", "--json", "--concurrency", "3")
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    process.send_signal(signal.SIGTERM)
    (last,) = process.communicate()[0].splitlines()

    assert first == {
        "pid": process.pid, "event": "started", "workflows": ["shop"], "store": first["store"], "concurrency": 3,
        "queues": None, "health": None,
    }  # fmt: skip
    ended = {"failed": 0, "succeeded": 0, "cancelled": 0, "parked": 0, "interrupted": 0}
    assert json.loads(last) == {"pid": process.pid, "event": "ended", "begun": 0, "ended": ended, "cut_off": 0}


@pytest.mark.parametrize("wrong", ["no", "70000", "host:", "-1"])
def test_a_wrong_address_is_refused(cano: Cano, wrong: str) -> None:
    """The health is served at a port, or at HOST:PORT."""
    result = cano("worker", "shop", f"--health={wrong}")
    assert result.exit_code == 2
    assert f"{wrong!r} is not a port, or HOST:PORT" in result.stderr
