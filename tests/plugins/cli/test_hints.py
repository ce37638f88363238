"""What a command prints can be pasted: ids and hints are words of a shell, and no table breaks a word."""

from __future__ import annotations

import io
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from cano_cli.hints import with_commands, word
from cano_cli.settings import Settings
from cano_cli.tables import show
from click import unstyle
from click.testing import CliRunner, Result

Cano = Callable[..., Result]

ODD = "Ada's run; in $MAY"
"""An id that a shell would take apart."""


@pytest.mark.parametrize(
    "text", ["order-17", "Ada in May", ODD, "", "it's", "*", "two\nlines\\n", "tab\t'", "bell\a", "snow \u2603", "~/a"]
)
def test_a_word_is_what_a_shell_makes_of_it(text: str) -> None:
    """A shell reads the word as the text that it stands for, and it fits on one line."""
    shown = word(text)

    read = subprocess.run(["bash", "-c", f"printf %s {shown}"], capture_output=True, check=True)
    assert read.stdout.decode() == text
    assert "\n" not in shown


def test_simple_ids_stay_as_they_are() -> None:
    """An id that needs no quotes has none."""
    assert word("shop/2026-11-30:order_17.b@x") == "shop/2026-11-30:order_17.b@x"


@pytest.mark.parametrize("given", [[], ["--store", "sqlite:///my runs.db"]])
def test_the_hint_of_a_failure_can_be_pasted(cano: Cano, store: str, project: Path, given: list[str]) -> None:
    """The command that a failure recommends resumes the run, whatever its id is and however its store was named."""
    (project / "broken").touch()
    failed = cano("run", "shop.py:flow", "--run-id", ODD, *given)
    (project / "broken").unlink()

    (hint,) = [line for line in failed.stderr.splitlines() if "to retry" in line]
    _, _, command = hint.strip(" ()").partition(": ")
    program, *arguments = shlex.split(command)
    again = cano(*arguments)

    assert program == "cano"
    assert again.exit_code == 0
    assert again.stderr == f"Resumed: run {word(ODD)} continues in state pay after 1 step\n"


def test_the_hint_keeps_blocked_plugins_out(cano: Cano, store: str, project: Path) -> None:
    """A command that was given with --block recommends one with the same."""
    (project / "broken").touch()

    assert "cano --block otel resume shop r1" in cano("--block", "otel", "run", "shop", "--run-id", "r1").stderr


def test_the_hint_shows_no_secret(cano: Cano, store: str, project: Path) -> None:
    """A URL that may contain a secret is a placeholder in the hint."""
    (project / "broken").touch()
    failed = cano("run", "shop", "--run-id", "r1", "--store", "sqlite:///a.db?synchronous=normal")

    assert "cano resume shop r1 --store URL)" in failed.stderr


def test_ids_are_shown_as_words(cano: Cano, store: str) -> None:
    """Every command shows an odd id so that it can be pasted into the next one."""
    shown, odd, fork = word(ODD), ODD, "a fork"

    assert f"(run {shown})" in cano("run", "shop", "--run-id", odd).stdout
    assert f"\n{shown}  " in cano("runs").stdout
    assert f"run:       {shown}\n" in cano("show", odd).stdout
    assert cano("fork", odd, "1", fork).stdout.startswith("run 'a fork' created in state pay, from run " + shown)
    assert cano("signal", odd, "x").stderr.startswith(f"not sent: run {shown} has ended")
    assert cano("cancel", odd).stderr == f"run {shown} has already ended: succeeded\n"
    assert cano("cancel", fork).stdout == "run 'a fork' is cancelled\n"
    assert sorted(cano("prune", "--delete-all-finished").stdout.splitlines()[:2]) == sorted(["'a fork'", shown])


class Terminal(io.StringIO):
    """A terminal as stdout."""

    def isatty(self) -> bool:
        """It is one."""
        return True


ROWS = [
    ["order-2026-11-30-000017", "VALIDATE_ADDRESS", "held by host-a:4711 (lease expires in 12.3 s)"],
    ["'Ada in May'", "PAY", "task 'pay' failed: ValueError: https://bank.example/accounts/17 does not answer"],
]


@pytest.mark.parametrize("columns", [200, 100, 80, 60, 40, 10])
def test_a_table_breaks_no_word(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """However narrow the terminal is, ids and states stay whole, and texts are wrapped only between words."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")

    show(["run", "state", "note"], ROWS)

    printed = unstyle(terminal.getvalue())
    for run, state, note in ROWS:
        assert run in printed
        assert state in printed
        assert set(note.split()) <= set(printed.split())
    if columns >= 100:
        assert max(map(len, printed.splitlines())) <= columns
    if columns <= 40:
        assert f"note:   {ROWS[1][2]}" in printed


def test_a_table_in_a_pipe_has_no_width(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal, a row is one line, however long it is."""
    monkeypatch.setenv("COLUMNS", "40")

    show(["run", "state", "note"], ROWS)

    _, *lines = capsys.readouterr().out.splitlines()
    assert [line.split(None, 2)[-1] for line in lines[:1]] == [ROWS[0][2]]
    assert lines[1].startswith(ROWS[1][0])
    assert lines[1].endswith(ROWS[1][2])


TRIP = """
    import asyncio, os
    from cano import SubWorkflow, TaskConfig, Workflow, current_step

    minimal = TaskConfig.minimal()
    hotel = Workflow("ask", name="hotel", default_config=minimal).add_exit_state("booked")
    trip = Workflow("plan", name="trip", default_config=minimal).add_exit_state("end")


    @hotel.on("ask")
    async def ask(store):
        if os.path.exists("cancel"):
            step = current_step()
            await step.run.kernel.cancel(step.run_id)
            await asyncio.Event().wait()
        return "booked"


    @trip.on("plan")
    async def plan(store):
        return "book"


    trip.register("book", SubWorkflow(hotel, then="end"))
"""


@pytest.mark.parametrize("shown_by", ["first run", "run", "resume", "explain", "show"])
def test_the_fork_of_a_run_whose_child_was_cancelled(
    cano: Cano, store: str, project: Path, write: Callable[[str, str], Path], shown_by: str
) -> None:
    """Resuming the run fails again, so that each command recommends a fork before that step, which works."""
    write("trip.py", TRIP)
    (project / "cancel").touch()
    shown = cano("run", "trip:trip", "--run-id", ODD)
    (project / "cancel").unlink()
    if shown_by == "run":
        shown = cano("run", "trip:trip", "--run-id", ODD)
    elif shown_by != "first run":
        shown = cano(shown_by, *(["trip:trip"] if shown_by == "resume" else []), ODD)

    (hint,) = [line for line in shown.output.splitlines() if "to try that step again in a fork: " in line]
    assert "to retry from that state" not in shown.output
    assert "its child was cancelled, so that resuming it fails again" in hint
    assert f"child {ODD}:2/hotel, after transition 1" in hint
    fork, resume = hint.removesuffix(")").partition(" in a fork: ")[2].split("; then: ")
    forked = cano(*shlex.split(fork)[1:])
    done = cano(*shlex.split(resume.replace("MODULE:FLOW", "trip:trip"))[1:])

    assert (forked.exit_code, done.exit_code) == (0, 0)
    assert done.stdout.startswith("trip ended in end after 2 steps")


def test_a_child_of_an_ended_parent(cano: Cano, store: str, project: Path, write: Callable[[str, str], Path]) -> None:
    """A failed child names its parent, which has failed with it; it can also be resumed by itself."""
    write("trip.py", TRIP.replace("await step.run.kernel.cancel(step.run_id)", "raise ValueError('no bed')"))
    (project / "cancel").touch()
    cano("run", "trip:trip", "--run-id", "u1")
    (project / "cancel").unlink()

    assert "it failed, and its parent has ended: parent u1 (failed)" in cano("explain", "u1:2/hotel").stdout
    _, _, command = cano("explain", "u1:2/hotel").stdout.strip().partition("; to resume both: ")
    assert cano("resume", "trip:hotel", "u1:2/hotel").exit_code == 0
    assert cano(*shlex.split(command.replace("MODULE:FLOW", "trip:trip"))[1:]).exit_code == 0


def test_calls_become_commands() -> None:
    """Where an error of the kernel names a method, the command line names the command, on the same store."""
    seen: list[str] = []

    @click.command()
    @click.option("--store")
    @click.pass_context
    def inner(ctx: click.Context, store: str) -> None:
        ctx.obj = Settings()
        calls = (
            "x; kernel.cancel('a b')", 'kernel.delete("it\'s")', "kernel.run(flow, run_id='r')",
            "kernel.resume(flow, 'r')", "kernel.signal('r')",
        )  # fmt: skip
        seen.extend(map(with_commands, calls))

    CliRunner().invoke(inner, ["--store", "sqlite:///runs.db"], catch_exceptions=False)

    on = "--store sqlite:///runs.db"
    assert seen == [
        f"x; cano cancel 'a b' {on}", f"""cano delete 'it'"'"'s' {on}""",
        f"cano run MODULE:FLOW --run-id r {on}", f"cano resume MODULE:FLOW r {on}", "kernel.signal('r')",
    ]  # fmt: skip
    assert with_commands("kernel.cancel('r')") == "kernel.cancel('r')"
