"""`cano validate`: ok, or every problem."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from click.testing import Result

Cano = Callable[..., Result]
Write = Callable[[str, str], Path]


def test_valid(cano: Cano) -> None:
    """A valid workflow is summed up."""
    result = cano("validate", "flows:flow")

    assert result.exit_code == 0
    assert result.stdout == "ok: workflow 'pages' version 1: 3 states, from FETCH to DONE\n"
    assert result.stderr == ""


def test_what_is_not_checked(cano: Cano, write: Write) -> None:
    """What could not be checked is told."""
    write(
        "w.py",
        "from cano import *\nflow = Workflow('a').register('a', task(lambda s: 'b')).add_exit_states(['b', 'c'])",
    )

    result = cano("validate", "w")

    assert result.exit_code == 0
    assert result.stdout == (
        "ok: workflow 'workflow' version 1: 3 states, from a to b, c\n"
        "not checked: the next states of a, whose tasks do not declare them\n"
    )


def test_unused_members(cano: Cano, write: Write) -> None:
    """Members of the enum that the workflow does not use are listed; they are no problem."""
    write(
        "w.py",
        "from cano import *\nfrom enum import Enum\n"
        "State = Enum('State', 'A B C D')\nflow = Workflow(State.A, name='w').add_exit_state(State.B)\n"
        "flow.register(State.A, task(targets=[State.B])(lambda s: State.B))",
    )

    result = cano("validate", "w")

    assert result.exit_code == 0
    assert result.stdout == "ok: workflow 'w' version 1: 2 states, from A to B\nnot used: C, D of State\n"
    assert result.stderr == ""


def test_a_member_that_is_a_target_without_a_task(cano: Cano, write: Write) -> None:
    """A member that a task declares as its target is a problem if it has no task."""
    write(
        "w.py",
        "from cano import *\nfrom enum import Enum\nState = Enum('State', 'A B C')\n"
        "flow = Workflow(State.A, name='w').add_exit_state(State.B)\n"
        "flow.register(State.A, task(targets=[State.B, State.C])(lambda s: State.B))",
    )

    result = cano("validate", "w")

    assert result.exit_code == 2
    assert "the state State.A declares the target <State.C: 3>, which has no task" in result.stderr


def test_invalid(cano: Cano, write: Write) -> None:
    """Every problem is told at once; exit code 2."""
    write("w.py", "from cano import *\nflow = Workflow('a', name='w')")

    result = cano("validate", "w")

    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == (
        "Error: workflow 'w' has 2 problem(s):\n"
        "  - the start state a has no task\n"
        "  - there is no exit state: a run could never end\n"
    )


def test_unknown_retry_strategy(cano: Cano, write: Write) -> None:
    """What only the plugins can tell is checked, too, with the plugins that there are."""
    write(
        "w.py",
        "from cano import *\nasync def step(store): return 'b'\n"
        "flow = Workflow('a', name='w').register('a', step, config=TaskConfig('fixed')).add_exit_state('b')",
    )

    assert cano("validate", "w").exit_code == 0
    result = cano("--block", "retry", "validate", "w")
    assert result.exit_code == 2
    assert "'fixed'" in result.stderr
    assert result.stderr.endswith("\n  in workflow 'w', state a, task 'step'\n")


def test_traceback(cano: Cano, write: Write) -> None:
    """`--traceback` shows all of what a module raises."""
    write("bad.py", "1 / 0\n")

    assert "Traceback" not in cano("validate", "bad").stderr
    assert "Traceback" in cano("validate", "bad", "--traceback").stderr


def test_json(cano: Cano, write: Write) -> None:
    """For programs: whether it is valid, and every problem."""
    write("bad.py", "from cano import *\nflow = Workflow('a', name='bad').register('a', task(lambda s: 'b'))")
    good, bad = cano("validate", "flows:flow", "--json"), cano("validate", "bad", "--json")

    assert (good.exit_code, json.loads(good.stdout)["ok"], json.loads(good.stdout)["problems"]) == (0, True, [])
    found = json.loads(bad.stdout)
    assert (bad.exit_code, found["ok"], found["workflow"]) == (2, False, "bad")
    assert any("exit" in problem for problem in found["problems"])
