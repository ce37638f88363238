"""`cano run --many` with a store and a run ID: a batch that continues when the command is repeated."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from tests.plugins.cli.conftest import error_of
from tests.plugins.cli.test_durable import wait_for_line

pytestmark = pytest.mark.usefixtures("store")

Cano = Callable[..., Result]
Write = Callable[[str, str], Path]
Start = Callable[..., "subprocess.Popen[str]"]

HALVES = """
    import asyncio, pathlib
    from cano import TaskConfig, Workflow

    flow = Workflow("halve", name="halves", default_config=TaskConfig.minimal()).add_exit_state("done")

    @flow.on("halve")
    async def halve(store):
        number = store["n"]
        if number % 2 and not pathlib.Path("fixed").exists():
            raise ValueError(f"{number} is odd")
        if number == 6 and not pathlib.Path("go").exists():
            print("waiting", flush=True)
            await asyncio.Event().wait()
        with open("journal", "a") as file:
            print(number, file=file)
        store["half"] = number // 2
        return "done"
"""


@pytest.fixture(autouse=True)
def _halves(write: Write) -> None:
    write("halves.py", HALVES)


def lines(write: Write, *numbers: int | str) -> str:
    """A file with these numbers; texts are lines as they are."""
    texts = (number if isinstance(number, str) else json.dumps({"n": number}) for number in numbers)
    return str(write("items.jsonl", "\n".join(texts) + "\n"))


BATCH = ("run", "halves", "--run-id", "b", "--many")


def test_outcomes_as_json(cano: Cano, write: Write) -> None:
    """Each run has a line, with the line of its input and its id; an invalid line is a failed run without one."""
    result = cano(*BATCH, lines(write, 2, "", 3, "no", 4), "--json", "--limit", "1")

    assert result.exit_code == 1
    printed = {line["line"]: line for line in map(json.loads, result.stdout.splitlines())}
    assert printed[1] == {
        "line": 1, "status": "succeeded", "run_id": "b/1", "workflow": "halves", "state": "done", "steps": 1,
        "data": {"n": 2, "half": 1},
    }  # fmt: skip
    assert (printed[3]["status"], printed[3]["run_id"]) == ("failed", "b/2")
    assert (printed[4]["status"], printed[4]["run_id"]) == ("failed", "b/3")
    assert (printed[5]["status"], printed[5]["run_id"]) == ("succeeded", "b/4")
    assert printed.keys() == {1, 3, 4, 5}
    assert "items.jsonl:4" in result.stderr
    assert result.stderr.endswith(
        "to resume the failed runs: cano resume halves --where 'parent = b and status = failed'\n"
    )


def test_no_advice_without_a_failed_run(cano: Cano, write: Write, project: Path) -> None:
    """An invalid line has no run to resume. A failed run that was resumed since counts as succeeded."""
    invalid = cano(*BATCH, lines(write, "no"))
    odd = ("run", "halves", "--run-id", "odd one", "--many", lines(write, 3))
    failed = cano(*odd)
    (project / "fixed").touch()
    advice = failed.stderr.splitlines()[-1].partition(": cano ")[2]
    resumed = cano(*shlex.split(advice))
    again = cano(*odd)

    assert (invalid.exit_code, failed.exit_code, resumed.exit_code, again.exit_code) == (1, 1, 0, 0)
    assert again.stdout.splitlines()[1].split()[:3] == ["1", "0", "0"]
    assert "to resume" not in invalid.stderr
    assert advice == """resume halves --where 'parent = "odd one" and status = failed'"""
    assert again.stderr == "batch 'odd one' had ended before; no line was read\n"


def test_show_names_five_children(cano: Cano, write: Write) -> None:
    """`cano show` prints the command that lists all of them; `--json` has them."""
    cano(*BATCH, lines(write, *[2] * 7), "--limit", "1")
    shown = cano("show", "b").stdout

    assert "children:  b/7, b/6, b/5, b/4, b/3 and more; to list them: cano runs --where 'parent = b'\n" in shown
    assert len(json.loads(cano("show", "b", "--json").stdout)["children"]) == 7


def test_a_batch_that_has_ended(cano: Cano, write: Write, project: Path) -> None:
    """The same command again prints the same counts, and runs nothing."""
    results = [cano(*BATCH, lines(write, 2, 4, 8)) for _ in range(2)]

    assert [result.exit_code for result in results] == [0, 0]
    assert [result.stdout.splitlines()[1].split()[:3] for result in results] == [["3", "0", "0"]] * 2
    assert (project / "journal").read_text().split() == ["2", "4", "8"]


def test_a_changed_line_is_refused(cano: Cano, start: Start, write: Write, project: Path) -> None:
    """So is one whose run was killed. With the same lines, the batch continues."""
    numbers = [2, 4, 8, 6]  # one at a time: the others have ended when it is killed
    process = start(*BATCH, lines(write, *numbers), "--limit", "1")
    wait_for_line(process, "waiting")
    process.send_signal(signal.SIGKILL)
    process.wait()
    explained = cano("explain", "b")
    refused = cano(*BATCH, lines(write, 2, 4, 8, 16))
    (project / "go").touch()
    result = cano(*BATCH, lines(write, *numbers))
    shown = cano("show", "b")

    assert explained.stdout.startswith("no process feeds this batch; run it again with the same id and the same inputs")
    assert refused.exit_code == 2
    assert error_of(refused).startswith("Error: input 4 is not what the batch 'b' has read before")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1].split()[:3] == ["4", "0", "0"]
    assert (project / "journal").read_text().split() == ["2", "4", "8", "6"]
    assert "children:  b/4, b/3, b/2, b/1" in shown.stdout


def test_ctrl_c_interrupts(start: Start, cano: Cano, write: Write, project: Path) -> None:
    """The batch and its runs are left in the store; the exit code is 130."""
    process = start(*BATCH, lines(write, 6))
    wait_for_line(process, "waiting")
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 130
    assert printed.endswith("Interrupted: to continue the batch, repeat the command\n")
    statuses = {run["run_id"]: run["status"] for run in json.loads(cano("runs", "--json").stdout)}
    assert statuses == {"b": "interrupted", "b/1": "interrupted"}
