"""The command as a process of its own: exit codes, signals, streams, terminals."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cano import Kernel

Start = Callable[..., "subprocess.Popen[str]"]
Write = Callable[[str, str], Path]
Install = Callable[..., None]

WAITING = """
    import asyncio, sys, threading
    from cano import TaskConfig, Workflow, task

    @task
    async def asynchronous(store):
        print("waiting", flush=True)
        try:
            await asyncio.Event().wait()
        finally:
            print("cleaned up", flush=True)

    @task
    async def stubborn(store):
        print("waiting", flush=True)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "again"

    @task
    def threaded(store):
        print("waiting", flush=True)
        threading.Event().wait()

    def flow(step):
        flow = Workflow("a", name="w", default_config=TaskConfig.minimal()).register("a", step)
        return flow.register("again", asynchronous).add_exit_state("b")

    one, two, three = flow(asynchronous), flow(stubborn), flow(threaded)
"""


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for the end: exit code, stdout, stderr."""
    out, err = process.communicate()
    return process.returncode, out, err


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["run", "flows:flow"], 0),
        (["run", "flows:flow", "--data", "broken=1"], 1),
        (["run", "flows:none"], 2),
        (["validate", "flows:flow"], 0),
        (["validate", "nothing"], 2),
        (["nonsense"], 2),
        (["--version"], 0),
    ],
)
def test_exit_codes(start: Start, args: list[str], code: int) -> None:
    """The process ends with the documented code, and without a traceback."""
    returned, _, err = finish(start(*args))

    assert returned == code
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("name", "state", "printed", "warned"),
    [("one", "a", "cleaned up\n", False), ("two", "again", "", False), ("three", "a", "", True)],
)
def test_ctrl_c(start: Start, write: Write, name: str, state: str, printed: str, warned: bool) -> None:
    """Ctrl-C cancels the run: its clean-up runs, no further state begins, no thread holds the process."""
    write("w.py", WAITING)
    process = start("run", f"w:{name}", "--run-id", "r1")
    assert process.stdout is not None

    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process)

    assert code == 130
    assert out == printed
    warnings = [line for line in err.splitlines() if line.startswith("Warning: a thread still executes state ")]
    lines = [line for line in err.splitlines() if line not in warnings]
    assert lines[0] == "Cancelled: the run was stopped"
    assert lines[1:4] == ["  workflow: w", f"  state:    {state}, attempt 1", "  run:      r1"]
    assert (len(warnings), lines[4:]) == (warned, [])


def test_timeout_of_a_thread(start: Start, write: Write) -> None:
    """A thread that was given up does not keep the process from ending."""
    write("w.py", WAITING)

    code, out, err = finish(start("run", "w:three", "--timeout", "1", "--json"))

    assert code == 1
    assert json.loads(out)["error"]["type"] == "RunTimeoutError"
    assert "Warning: a thread still executes state a of run " in err


def test_task_that_exits_leaves_no_noise(start: Start, write: Write) -> None:
    """What asyncio has to say about a SystemExit in a task is not shown."""
    write(
        "w.py",
        "import sys\nfrom cano import *\nasync def step(store): sys.exit(0)\n"
        "flow = Workflow('a').register('a', step).add_exit_state('b')\n",
    )

    code, _, err = finish(start("run", "w"))

    assert code == 1
    assert err.startswith("Error: a task called sys.exit(0)")
    assert "Traceback" not in err
    assert "never retrieved" not in err


def test_observer_that_raises(start: Start, install: Install, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An observer that raises is told in one line, not in a page."""
    install(
        "watch",
        "from cano import hookimpl\n@hookimpl\ndef cano_step_started(step): raise ValueError('blind')\n",
    )
    monkeypatch.setenv("PYTHONPATH", str(project / "site"))

    code, _, err = finish(start("run", "flows:flow"))

    assert code == 0
    assert err == (
        "Warning: observer plugin_watch.cano_step_started raised; the run continues, later errors are only counted: "
        "ValueError: blind\n"
    )


def test_what_the_terminal_cannot_show(start: Start, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data that cannot be encoded is shown escaped."""
    write("odd.json", '{"snow": "\u2603", "half": "\\ud800"}')

    code, out, _ = finish(start("run", "flows:flow", "--data", "@odd.json"))

    assert code == 0
    assert 'snow   "\u2603"\n' in out
    assert 'half   "\\ud800"\n' in out


def test_closed_pipe(start: Start) -> None:
    """A reader that goes away, such as `head`, is no reason for a traceback."""
    process = start("graph", "flows:flow")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None

    assert process.stderr.read() == ""


def test_rich_is_imported_only_to_show_something(start: Start) -> None:
    """Neither help nor JSON needs rich, and what every kernel imports needs nothing."""
    code = (
        "import sys\n"
        "import cano_cli._plugin\n"
        "assert 'click' not in sys.modules\n"
        "from cano_cli.main import main\n"
        "for args in (['--help'], ['run', 'flows:flow', '--json'], ['plugins'], ['graph', 'flows']):\n"
        "    try: main(args)\n"
        "    except SystemExit as end: assert end.code == 0\n"
        "    assert 'rich' not in sys.modules, args\n"
        "print('fine', file=sys.stderr)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert ended.stderr.endswith("fine\n"), ended.stderr


class Terminal:
    """A terminal of 100 columns, and what was written to it."""

    def __init__(self) -> None:
        self.reader, self.writer = pty.openpty()
        os.set_blocking(self.reader, True)
        self.text = ""

    def read(self) -> bool:
        """Read what there is; whether there may be more."""
        try:
            part = os.read(self.reader, 10_000)
        except OSError:  # Linux: the other end was closed
            return False
        self.text += part.decode()
        return bool(part)

    def wait_for(self, text: str) -> None:
        """Read until `text` was written."""
        while text not in self.text:
            assert self.read(), self.text

    def close(self) -> None:
        """Read the rest, once the process has ended."""
        os.close(self.writer)
        while self.read():
            pass
        os.close(self.reader)


LIVE = """
    import sys
    from typing import Literal
    from cano import TaskConfig, Workflow, current_step, task

    @task
    def first(store) -> Literal["[red]b"]:
        current_step().progress(2, 5, "[bold]pages")
        print("out of first", end="", flush=False)
        print("err of first", file=sys.stderr)
        sys.stdin.readline()
        return "[red]b"

    @task
    async def second(store) -> Literal["c"]:
        if "broken" in store:
            raise ValueError("bad")
        return "c"

    flow = Workflow("a", name="w", default_config=TaskConfig.minimal())
    flow.register("a", first).register("[red]b", second).add_exit_state("c")
"""


def live(start: Start, *args: str, stdout: bool) -> tuple[int, str, str]:
    """Run the flow above with a terminal as stderr (and as `stdout`): exit code, what is on it, what is in the pipe."""
    terminal = Terminal()
    process = start(
        "run", "w", *args,
        stdin=subprocess.PIPE,
        stderr=terminal.writer,
        stdout=terminal.writer if stdout else subprocess.PIPE,
    )  # fmt: skip
    if "--no-progress" not in args:
        terminal.wait_for("2/5 [bold]pages")
    terminal.wait_for("err of first")
    out, _ = process.communicate("go on\n")
    terminal.close()
    return process.returncode, terminal.text, out or ""


@pytest.fixture
def dressed(monkeypatch: pytest.MonkeyPatch, write: Write) -> None:
    """The flow above, and a terminal that can draw."""
    write("w.py", LIVE)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("dressed")
def test_live_view(start: Start) -> None:
    """On a terminal the states are shown as they come, with what they say of themselves; then the report."""
    code, shown, _ = live(start, stdout=True)

    assert code == 0
    assert "running" in shown
    assert "out of first" in shown
    assert shown.count("w ended in") == 1
    assert "[red]b" in shown[shown.index("w ended in") :]


@pytest.mark.usefixtures("dressed")
def test_live_view_leaves_stdout_alone(start: Start) -> None:
    """What tasks print gets where stdout goes, also where stderr is a terminal with a live view."""
    code, shown, out = live(start, stdout=False)

    assert code == 0
    assert out.startswith("out of first")
    assert "w ended in c" in out
    assert "\x1b" not in out
    assert "out of first" not in shown


@pytest.mark.usefixtures("dressed")
def test_live_view_stays_after_a_failure(start: Start) -> None:
    """Where the run fails, the last view is left on the screen, and the failure told under it."""
    code, shown, _ = live(start, "--data", "broken=1", stdout=False)

    assert code == 1
    end = shown[: shown.index("Error:")]
    assert "failed" in end
    assert "ValueError: bad" in shown


@pytest.mark.usefixtures("dressed")
def test_live_view_vanishes_after_a_usage_error(start: Start) -> None:
    """No table without states is left above the error: its lines are erased."""

    async def create() -> None:
        async with Kernel(store="sqlite:///runs.db"):
            pass

    asyncio.run(create())
    terminal = Terminal()
    process = start("resume", "w", "nope", "--store", "sqlite:///runs.db", stderr=terminal.writer)
    code = process.wait(60)
    terminal.close()

    table, _, error = terminal.text.partition("Error:")
    assert (code, "has no run 'nope'" in error) == (2, True)
    assert "\x1b[2K" in table


@pytest.mark.usefixtures("dressed")
def test_no_progress(start: Start) -> None:
    """`--no-progress` shows no view."""
    code, shown, out = live(start, "--no-progress", stdout=False)

    assert code == 0
    assert "running" not in shown
    assert "w ended in c" in out


MANY = """
    from cano import TaskConfig, Workflow, task

    @task
    async def step(store):
        if store["n"] < 0:
            raise ValueError("negative")
        return "b"

    flow = Workflow("a", name="w", default_config=TaskConfig.minimal()).register("a", step).add_exit_state("b")
"""


@pytest.mark.usefixtures("dressed")
@pytest.mark.parametrize("quota", [[], ["--quota", "9"]])
def test_bar(start: Start, write: Write, quota: list[str]) -> None:
    """On a terminal a bar shows how many runs have ended how, while others are still to come."""
    write("m.py", MANY)
    terminal = Terminal()
    process = start("run", "m", "--many", "-", "--json", *quota, stdin=subprocess.PIPE, stderr=terminal.writer)
    assert process.stdin is not None
    process.stdin.write('{"n": 1}\n{"n": -1}\n{"n": 2}\n')
    process.stdin.flush()
    terminal.wait_for("2 succeeded")
    terminal.wait_for("1 failed")
    terminal.wait_for("0 running")
    assert "cancelled" not in terminal.text
    out, _ = process.communicate()
    terminal.close()

    assert process.returncode == 1
    assert [json.loads(line)["status"] for line in out.splitlines()] == ["succeeded", "failed", "succeeded"]


@pytest.mark.usefixtures("dressed")
def test_no_bar_over_the_answers(start: Start, write: Write) -> None:
    """Where the answers themselves go to the terminal, no bar is drawn over them."""
    write("m.py", MANY)
    write("items.jsonl", '{"n": 1}\n' * 3)
    terminal = Terminal()
    process = start("run", "m", "--many", "items.jsonl", "--json", stdout=terminal.writer, stderr=terminal.writer)
    process.wait()
    terminal.close()

    assert terminal.text.count('"status": "succeeded"') == 3
    assert "running" not in terminal.text


@pytest.mark.usefixtures("dressed")
def test_bar_of_a_file(start: Start, write: Write) -> None:
    """Of a file it is known how much there is to do."""
    write("m.py", MANY)
    write("items.jsonl", '{"n": 1}\n\n{"n": 2}\n')
    terminal = Terminal()
    process = start("run", "m", "--many", "items.jsonl", stderr=terminal.writer)
    out, _ = process.communicate()
    terminal.close()

    assert process.returncode == 0
    assert "2 succeeded" in terminal.text
    assert out.splitlines()[0].split() == ["succeeded", "failed", "cancelled", "time", "rate"]


def test_python_m_cano(project: Path) -> None:
    """`python -m cano` is the same command, also with the short option for help."""
    command = [sys.executable, "-W", "error", "-m", "cano", "graph", "-h"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: cano graph [OPTIONS] MODULE:FLOW\n")


def test_python_m_cano_without_the_command(project: Path) -> None:
    """Where cano-cli is not installed, it says so."""
    program = "import runpy, sys; sys.modules['cano_cli'] = None; runpy.run_module('cano', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", program], cwd=project, capture_output=True, text=True, check=False)

    assert (done.returncode, "cano-cli, which is not installed" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("before", "environment", "logged"),
    [("", {}, False), ("", {"CANO_LOG": "warning"}, True), ("import structlog", {}, True)],
)
def test_a_failure_is_reported_once(
    start: Start, write: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch, before: str,
    environment: dict[str, str], logged: bool,
) -> None:  # fmt: skip
    """The command reports the failure of its run; it is not logged, too, unless the user or the module asks for it."""
    write("fails.py", f"{before}\nfrom cano import Workflow\nflow = Workflow('a', name='w').add_exit_state('b')\n"
                      "flow.register('a', lambda store: 1 / 0)\n")  # fmt: skip
    for name, value in {"CANO_BLOCK": "", **environment}.items():
        monkeypatch.setenv(name, value)
    code, _, err = finish(start("run", "fails.py"))

    assert (code, "ZeroDivisionError" in err) == (1, True)
    assert ("cano.run.failed" in err) == logged
