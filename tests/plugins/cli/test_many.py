"""`cano run --many`: one run for each line of a file."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cano_cli.main import make_app
from click.testing import CliRunner, Result

from tests.peak import PEAK
from tests.plugins.cli.conftest import NOT_A_DURATION, error_of

Cano = Callable[..., Result]
Write = Callable[[str, str], Path]
Start = Callable[..., "subprocess.Popen[str]"]

SQUARES = """
    import asyncio, sys
    from cano import TaskConfig, Workflow, task, wait_for

    @task
    async def square(store):
        number = store["n"]
        print("squaring", number)
        if number < 0:
            raise ValueError(f"{number} is negative")
        if number == 13:
            sys.exit(3)
        if number == 99:
            await asyncio.Event().wait()
        for _ in range(number % 4):  # they do not end in the order in which they begin
            await asyncio.sleep(0)
        store["square"] = number**store.get("power", default=2)
        return "done"

    @task
    async def sleepy(store):
        return wait_for("morning", then="done")

    def flow(step):
        flow = Workflow("square", name="squares", default_config=TaskConfig.minimal())
        return flow.register("square", step).add_exit_state("done")

    squares, waits = flow(square), flow(sleepy)
"""


@pytest.fixture(autouse=True)
def _squares(write: Write) -> None:
    write("squares.py", SQUARES)


@pytest.fixture
def items(project: Path) -> Callable[..., str]:
    """Write a file with these numbers, one a line."""

    def items(*numbers: int | str) -> str:
        lines = [f'{{"n": {number}}}\n' if isinstance(number, int) else f"{number}\n" for number in numbers]
        (project / "items.jsonl").write_text("".join(lines))
        return "items.jsonl"

    return items


def answers(text: str) -> list[dict[str, Any]]:
    """The JSON lines in `text`."""
    return [json.loads(line) for line in text.splitlines()]


def without_times(text: str) -> str:
    """The text with what depends on time taken out; columns one space apart."""
    return re.sub(r" {2,}", " ", re.sub(r"\d+\.\d+ (s|runs/s)", r"T \1", text))


def test_all_succeed(cano: Cano, items: Callable[..., str]) -> None:
    """When all runs end well, the exit code is 0, and a summary says so."""
    result = cano("run", "squares:squares", "--many", items(*range(10)), "--limit", "3")

    assert result.exit_code == 0
    assert result.stderr == ""
    said = [line for line in without_times(result.stdout).splitlines() if not line.startswith("squaring")]
    assert said == ["succeeded failed cancelled time rate", "10 0 0 T s T runs/s"]


def test_some_fail(cano: Cano, items: Callable[..., str]) -> None:
    """A run that fails, and a line that cannot be read, are told with the number of the line; the others are run."""
    result = cano("run", "squares:squares", "--many", items(1, -2, "", "oops", 5, "[6]"))

    assert result.exit_code == 1
    said = [line for line in without_times(result.stdout).splitlines() if not line.startswith("squaring")]
    assert said == [
        "succeeded failed cancelled time rate",
        "2 3 0 T s T runs/s",
        "",
        "line error at",
        "2 task 'square' failed: ValueError: -2 is negative squares.py:10 in square: raise ValueError(f\"{number} is "
        'negative")',
        "4 items.jsonl:4:1: not JSON: Expecting value",
        '6 items.jsonl:6: expected a JSON object such as {"key": 1}, but the line contains a list',
    ]


def test_many_fail(cano: Cano, items: Callable[..., str]) -> None:
    """Of many errors the first few are shown, and how many more there are."""
    result = cano("run", "squares:squares", "--many", items(*range(-20, 0)), "--limit", "1")

    assert result.exit_code == 1
    assert re.findall(r"^(\d+) +task", result.stdout, re.MULTILINE) == ["1", "2", "3", "4", "5"]
    assert result.stdout.endswith("and 15 more\n")


def test_json(cano: Cano, items: Callable[..., str]) -> None:
    """With `--json` each line has its own line of JSON, in order; all else goes to stderr."""
    result = cano("run", "squares:squares", "--many", items(3, -2, "oops", 2, 1, 0), "--json")
    found = answers(result.stdout)

    assert result.exit_code == 1
    assert [answer["line"] for answer in found] == [1, 2, 3, 4, 5, 6]
    assert [answer["status"] for answer in found] == ["succeeded", "failed", "failed", *["succeeded"] * 3]
    assert all(answer.pop("seconds") >= 0 for answer in found)
    assert re.fullmatch(r"[0-9a-f]{20}-\d+", found[0].pop("run_id"))
    assert found[0] == {
        "line": 1,
        "status": "succeeded",
        "workflow": "squares",
        "state": "done",
        "steps": 1,
        "data": {"n": 3, "square": 9},
    }
    assert found[1]["error"]["message"] == "task 'square' failed: ValueError: -2 is negative"
    assert found[1]["state"] == "square"
    assert found[2] == {
        "line": 3,
        "status": "failed",
        "run_id": None,
        "workflow": "squares",
        "state": None,
        "attempt": None,
        "error": {
            "type": "BadLineError",
            "message": "items.jsonl:3:1: not JSON: Expecting value",
            "causes": [],
            "notes": [],
            "place": None,
        },
    }
    assert "squaring 3\n" in result.stderr
    assert "succeeded  failed  cancelled" in result.stderr


def test_common_data(cano: Cano, items: Callable[..., str]) -> None:
    """`--data` is what all runs begin with; what a line says goes over it."""
    file = items(2, '{"n": 2, "power": 3}')

    result = cano("run", "squares:squares", "--many", file, "--data", "power=4", "--data", "n=5", "--json")

    assert [answer["data"]["square"] for answer in answers(result.stdout)] == [16, 8]


def test_store_of_the_environment(cano: Cano, items: Callable[..., str], store: str) -> None:
    """A store that is meant for other commands is not used: the runs are kept in memory."""
    assert cano("run", "squares:squares", "--many", items(1)).exit_code == 0
    assert "does not exist" in cano("runs").stderr


def test_no_lines(cano: Cano, items: Callable[..., str]) -> None:
    """Of no runs at all, none has failed."""
    result = cano("run", "squares:squares", "--many", items())

    assert result.exit_code == 0
    assert without_times(result.stdout).splitlines()[1] == "0 0 0 T s T runs/s"


def test_quota(cano: Cano, items: Callable[..., str]) -> None:
    """When the quota is met, that is a success, whatever failed; what was begun is cancelled, the rest not read."""
    file = items(-1, 99, 4, "oops", 8, 99, 16)

    result = cano("run", "squares:squares", "--many", file, "--quota", "2", "--limit", "2", "--json")

    assert result.exit_code == 0
    found = {answer["line"]: answer["status"] for answer in answers(result.stdout)}
    assert found.pop(6, "cancelled") == "cancelled"  # it may have begun when the fifth ended
    assert found == {1: "failed", 2: "cancelled", 3: "succeeded", 4: "failed", 5: "succeeded"}
    assert "stopped: the quota of 2 was reached; some lines were not read\n" in result.stderr


def test_quota_out_of_reach(cano: Cano, items: Callable[..., str]) -> None:
    """When the quota cannot be met any more, that is told at once; the exit code is 1."""
    result = cano("run", "squares:squares", "--many", items(4, -1, 99), "--quota", "3")

    assert result.exit_code == 1
    assert "\nstopped: the quota of 3 can no longer be reached\n" in result.stdout
    assert without_times(result.stdout).splitlines()[4] == "1 1 1 T s T runs/s"


def test_duration(cano: Cano, items: Callable[..., str]) -> None:
    """When the time is over, what still runs is cancelled; the exit code is 1."""
    result = cano("run", "squares:squares", "--many", items(4, 99), "--duration", "0.3", "--json")

    assert result.exit_code == 1
    assert [answer["status"] for answer in answers(result.stdout)] == ["succeeded", "cancelled"]
    assert answers(result.stdout)[1]["state"] == "square"
    assert "stopped after 0.3 s\n" in result.stderr


def test_run_that_waits(cano: Cano, items: Callable[..., str]) -> None:
    """A run that waits is cancelled with the others, and does not hold up the end."""
    result = cano("run", "squares:waits", "--many", items(1, 2), "--duration", "0.05", "--json")

    assert result.exit_code == 1
    assert [answer["status"] for answer in answers(result.stdout)] == ["cancelled", "cancelled"]


def test_task_that_exits(cano: Cano, items: Callable[..., str]) -> None:
    """A task that calls sys.exit() ends the batch as a failure; what had ended is told."""
    result = cano("run", "squares:squares", "--many", items(4, 13, 99), "--limit", "1", "--json")

    assert result.exit_code == 1
    assert answers(result.stdout)[0]["status"] == "succeeded"
    assert "Error: a task called sys.exit(3), which ends the program" in result.stderr


def test_stdin() -> None:
    """`-` reads the lines from stdin."""
    args = ["run", "squares:squares", "--many", "-", "--json"]

    result = CliRunner().invoke(make_app(), args, input='{"n": 2}\noops\n', catch_exceptions=False)

    assert [answer["status"] for answer in answers(result.stdout)] == ["succeeded", "failed"]
    assert answers(result.stdout)[1]["error"]["message"] == "stdin:2:1: not JSON: Expecting value"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--many", "none.jsonl"], "Error: --many none.jsonl: cannot read the file: No such file or directory\n"),
        (["--many", "-", "--limit", "0"], "Error: Invalid value for '--limit': 0 is not in the range x>=1.\n"),
        (["--many", "-", "--quota", "0"], "Error: Invalid value for '--quota': 0 is not in the range x>=1.\n"),
        (["--many", "-", "--duration", "0"],
         f"Error: Invalid value for '--duration': '0' {NOT_A_DURATION}\n"),
        (["--limit", "3"], "Error: --limit requires --many FILE\n"),
        (["--quota", "3"], "Error: --quota requires --many FILE\n"),
        (["--duration", "3"], "Error: --duration requires --many FILE\n"),
        (["--many", "-", "--run-id", "r"],
         "Error: --run-id with --many requires --store URL: without a store, no batch survives the command\n"),
        (["--many", "-", "--timeout", "3"],
         "Error: --timeout cannot be used with --many: --duration limits the time; remove it\n"),
        (["--many", "-", "--store", "memory://"],
         "Error: --store with --many requires --run-id ID, which continues the batch when it is repeated\n"),
    ],
)  # fmt: skip
def test_wrong_options(cano: Cano, args: list[str], message: str) -> None:
    """What makes no sense is refused before anything is run; the exit code is 2."""
    result = cano("run", "squares:squares", *args)

    assert result.exit_code == 2
    assert error_of(result) == message


def test_wrong_flow(cano: Cano, items: Callable[..., str], write: Write) -> None:
    """A workflow that is defined wrongly is told once, not for each line; the exit code is 2."""
    write("w.py", "from cano import Workflow\nflow = Workflow('a', name='w')\n")

    result = cano("run", "w", "--many", items(1, 2))

    assert result.exit_code == 2
    assert result.stderr.startswith("Error: workflow 'w' has 2 problem(s):")
    assert result.stdout == ""


def test_as_they_come(start: Start) -> None:
    """A pipe is not read to its end before the first run begins, nor is its answer held back."""
    process = start("run", "squares:squares", "--many", "-", "--json", stdin=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None

    for number in (2, 3):
        process.stdin.write(f'{{"n": {number}}}\n')
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["data"]["square"] == number**2
    process.communicate()

    assert process.returncode == 0


def test_ctrl_c(start: Start) -> None:
    """Ctrl-C cancels what runs, tells how the others have ended, and does not wait for more lines."""
    process = start("run", "squares:squares", "--many", "-", "--json", stdin=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write('{"n": 2}\n{"n": 99}\n')
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["status"] == "succeeded"
    assert process.stderr is not None
    while process.stderr.readline() != "squaring 99\n":
        pass

    process.send_signal(signal.SIGINT)
    out, err = process.stdout.read(), process.stderr.read()

    assert process.wait() == 130
    assert json.loads(out)["status"] == "cancelled"
    assert "Cancelled: the runs were stopped\n" in err
    assert "Traceback" not in err


def test_reader_that_goes_away(project: Path, start: Start, items: Callable[..., str]) -> None:
    """When nobody reads the answers any more, no more runs begin, and there is no traceback."""
    process = start("run", "squares:squares", "--many", items(*range(4, 84, 4)), "--json", "--limit", "1")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()

    assert process.wait() == 1
    assert err.count("squaring") < 20
    assert "Traceback" not in err


def test_memory(project: Path) -> None:
    """Lines are read only as fast as runs begin: what is kept does not grow with the file."""
    code = (
        "import sys\n"
        "from cano_cli.main import main\n"
        "try: main(['run', 'squares:squares', '--many', sys.argv[1], '--limit', '5', '--json'])\n"
        f"except SystemExit: print({PEAK}, file=sys.stderr)\n"
    )

    def peak(lines: int) -> int:
        padding = "x" * 10_000
        file = project / f"{lines}.jsonl"
        file.write_text("".join(f'{{"n": 4, "padding": "{padding}"}}\n' for _ in range(lines)))
        ended = subprocess.run([sys.executable, "-c", code, file.name], capture_output=True, text=True, check=True)
        return int(ended.stderr.splitlines()[-1])

    assert peak(2_000) - peak(20) < 5_000  # KiB; the files differ by 20 MB
