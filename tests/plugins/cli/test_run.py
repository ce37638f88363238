"""`cano run`: its options, what it prints, and its exit codes."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tests.plugins.cli.conftest import NOT_A_DURATION, error_of

Cano = Callable[..., Result]
Write = Callable[[str, str], Path]
Install = Callable[..., None]

HEAD = "from cano import *\n"
TO_B = "Workflow('a', name='w', default_config=TaskConfig.minimal()).register('a', task(step)).add_exit_state('b')\n"


def without_times(text: str) -> str:
    """The text with durations and made-up run ids taken out."""
    return re.sub(r"\d+\.\d\d s", "T s", re.sub(r"[0-9a-f]{20}-\d+", "ID", text))


def test_success(cano: Cano) -> None:
    """A run that ends well is told on stdout: state, steps, states and data; the exit code is 0."""
    result = cano("run", "flows:flow", "--data", "name=Ada", "--data", "tries=3")

    assert result.exit_code == 0
    assert result.stderr == ""
    assert without_times(result.stdout) == (
        "fetching for Ada\n"
        "pages ended in DONE after 2 steps and T s (run ID)\n"
        "\n"
        "state  task   status  attempts  time\n"
        "FETCH  fetch  done    1         T s\n"
        "PARSE  parse  done    1         T s\n"
        "\n"
        "key    value\n"
        'name   "Ada"\n'
        "tries  3\n"
        "pages  [1, 2]\n"
    )


def test_no_data(cano: Cano, write: Write) -> None:
    """A workflow that begins at its end, with nothing."""
    write("w.py", HEAD + "flow = Workflow('b', name='w').add_exit_state('b')")

    result = cano("run", "w")

    assert without_times(result.stdout) == "w ended in b after 0 steps and T s (run ID)\n\nno data\n"


def test_json(cano: Cano, write: Write) -> None:
    """With `--json` there is one JSON object on stdout; what tasks and modules print goes to stderr."""
    write("first.json", '{"name": "Ada"}')

    result = cano("run", "flows:flow", "--data", "@first.json", "--run-id", "r1", "--json")
    answer = json.loads(result.stdout)

    assert result.exit_code == 0
    assert result.stderr == "fetching for Ada\n"
    assert {**answer, "seconds": 0, "states": [{**state, "seconds": 0} for state in answer["states"]]} == {
        "status": "succeeded",
        "run_id": "r1",
        "workflow": "pages",
        "state": "DONE",
        "steps": 2,
        "data": {"name": "Ada", "pages": [1, 2]},
        "earlier": None,
        "seconds": 0,
        "states": [
            {"state": "FETCH", "task": "fetch", "status": "done", "visits": 1, "attempts": 1, "seconds": 0},
            {"state": "PARSE", "task": "parse", "status": "done", "visits": 1, "attempts": 1, "seconds": 0},
        ],
    }
    assert answer["seconds"] >= sum(state["seconds"] for state in answer["states"]) > 0


def test_attempts_and_visits(cano: Cano, write: Write) -> None:
    """A state that was tried several times, or entered several times, has one line with the sums."""
    write(
        "w.py",
        HEAD
        + "class At_once:\n"
        + "    def delay(self, attempt, error, elapsed): return 0.0\n"
        + "async def step(store):\n"
        + "    if current_step().attempt == 1: raise OSError\n"
        + "    store['n'] = store.get('n', default=0) + 1\n"
        + "    return 'b' if store['n'] == 3 else 'a'\n"
        + "flow = Workflow('a').register('a', step, config=TaskConfig(At_once())).add_exit_state('b')\n",
    )

    result = cano("run", "w")

    assert re.search(r"^a +step +done +3 visits, 6 attempts +\d", result.stdout, re.MULTILINE)


def test_failure(cano: Cano) -> None:
    """A run that fails is told on stderr, without a traceback; the exit code is 1."""
    result = cano("run", "flows:flow", "--data", "broken=1", "--run-id", "r1")

    assert result.exit_code == 1
    assert result.stdout == "fetching for nobody\n"
    assert result.stderr == (
        "Error: task 'parse' failed: ValueError: bad page\n"
        "  cause:    ValueError: bad page\n"
        '  at:       flows.py:23 in parse: raise ValueError("bad page")\n'
        "  workflow: pages\n"
        "  state:    PARSE, attempt 1\n"
        "  run:      r1\n"
        "  (--traceback prints the full traceback)\n"
    )


def test_failure_with_traceback(cano: Cano) -> None:
    """`--traceback` prints all of it, before the summary."""
    result = cano("run", "flows:flow", "--data", "broken=1", "--traceback")

    assert result.exit_code == 1
    assert result.stderr.startswith("Traceback (most recent call last):\n")
    assert "The above exception was the direct cause of the following exception" in result.stderr
    assert "\nError: task 'parse' failed: ValueError: bad page\n" in result.stderr
    assert "--traceback" not in result.stderr


def test_failure_as_json(cano: Cano) -> None:
    """With `--json` a failure is told on stdout for programs, and on stderr for people."""
    result = cano("run", "flows:flow", "--data", "broken=1", "--run-id", "r1", "--json")
    answer = json.loads(result.stdout)

    assert result.exit_code == 1
    assert "Error: task 'parse' failed: ValueError: bad page\n" in result.stderr
    assert [state["status"] for state in answer.pop("states")] == ["done", "failed"]
    del answer["seconds"]
    assert answer == {
        "status": "failed",
        "run_id": "r1",
        "workflow": "pages",
        "state": "PARSE",
        "attempt": 1,
        "error": {
            "type": "TaskError",
            "message": "task 'parse' failed: ValueError: bad page",
            "causes": ["ValueError: bad page"],
            "notes": [],
            "place": 'flows.py:23 in parse: raise ValueError("bad page")',
        },
        "earlier": None,
    }


def test_timeout(cano: Cano, write: Write) -> None:
    """A run that takes too long fails, and where it was at that time is told."""
    write(
        "w.py",
        HEAD + f"import asyncio\nasync def step(store):\n    await asyncio.Event().wait()\nflow = {TO_B}",
    )

    result = cano("run", "w", "--timeout", "0.5", "--run-id", "r1")

    assert result.exit_code == 1
    assert result.stderr == (
        "Error: run r1 took longer than 0.5 s; it was in state a\n"
        "  at:       w.py:4 in step: await asyncio.Event().wait()\n"
        "  workflow: w\n"
        "  state:    a, attempt 1\n"
        "  run:      r1\n"
        "  (--traceback prints the full traceback)\n"
    )


SHELF = """
    import asyncio

    from cano import hookimpl
    from cano_memory import MemoryBackend

    class Shelf(MemoryBackend):
        async def {method}(self, what):
            await asyncio.Event().wait()

    @hookimpl
    def cano_open_store(url):
        return Shelf(strict=True) if url == "shelf://" else None
"""


@pytest.mark.parametrize(
    ("method", "told"),
    [
        ("create", "Error: run r1 took longer than 0.5 s: its store did not answer\n  workflow: pages\n"),
        ("commit", "Error: run r1 took longer than 0.5 s; it was in state State.FETCH\n"
         "  at:       site/plugin_shelf.py:9 in commit: await asyncio.Event().wait()\n"
         "  workflow: pages\n  state:    FETCH, attempt 1\n"),
    ],
)  # fmt: skip
def test_timeout_in_the_store(cano: Cano, install: Install, method: str, told: str) -> None:
    """Where it was the store that took too long, no task is blamed."""
    install("shelf", textwrap.dedent(SHELF).format(method=method))

    result = cano("run", "flows:flow", "--store", "shelf://", "--timeout", "0.5", "--run-id", "r1")

    assert result.exit_code == 1
    assert result.stderr.startswith(told + "  run:      r1\n")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--timeout", "0"], f"Error: Invalid value for '--timeout': '0' {NOT_A_DURATION}\n"),
        (["--timeout", "nan"], f"Error: Invalid value for '--timeout': 'nan' {NOT_A_DURATION}\n"),
        (["--run-id", ""], "Error: run_id must be a string that is not empty and contains no NUL, not ''\n"),
        (["--store", "nosuch://x"], "Error: no active plugin provides the store 'nosuch://x'\n"),
        (["--data", "x"], "Error: --data x: expected key=value, or @file.json for a file with a JSON object\n"),
    ],
)  # fmt: skip
def test_wrong_options(cano: Cano, args: list[str], message: str) -> None:
    """What is configured wrongly is told before the run begins; the exit code is 2."""
    result = cano("run", "flows:flow", *args)

    assert result.exit_code == 2
    assert re.sub(r"; there are: [^;\n]+", "", error_of(result)) == message
    assert result.stdout == ""


def test_wrong_usage(cano: Cano) -> None:
    """What click itself refuses has the exit code 2, too."""
    assert cano("run").exit_code == 2
    assert cano("run", "flows:flow", "--timeout", "soon").exit_code == 2
    assert cano("run", "flows:flow", "--no-such-option").exit_code == 2
    assert cano("walk").exit_code == 2


def test_invalid_workflow(cano: Cano, write: Write) -> None:
    """An invalid workflow is refused with every problem; nothing is printed for programs."""
    write("w.py", HEAD + "flow = Workflow('a', name='w')")

    result = cano("run", "w", "--json")

    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == (
        "Error: workflow 'w' has 2 problem(s):\n"
        "  - the start state a has no task\n"
        "  - there is no exit state: a run could never end\n"
    )


def test_unknown_retry_strategy(cano: Cano, write: Write) -> None:
    """A configuration error of the engine is told with the place that it notes."""
    write(
        "w.py",
        HEAD + "async def step(store): return 'b'\n"
        "flow = Workflow('a', name='w').register('a', step, config=TaskConfig('nope')).add_exit_state('b')",
    )

    result = cano("run", "w")

    assert result.exit_code == 2
    problem = "no active plugin provides the retry strategy 'nope' (did you mean 'none'?)"
    assert result.stderr.startswith(f"Error: {problem}; there are: exponential, fixed, none\n")
    assert result.stderr.endswith("\n  in workflow 'w', state a, task 'step'\n")


@pytest.mark.parametrize("wanted", [False, True])
def test_module_that_raises(cano: Cano, write: Write, wanted: bool) -> None:
    """A module that cannot be imported: the whole traceback only on demand; exit code 2."""
    write("bad.py", "1 / 0\n")

    result = cano("run", "bad", *(["--traceback"] if wanted else []))

    assert result.exit_code == 2
    assert ("Traceback" in result.stderr) is wanted
    assert result.stderr.endswith(
        "Error: module 'bad' cannot be imported: ZeroDivisionError: division by zero\n"
        "  at bad.py:1 in <module>: 1 / 0\n"
    )


def test_store_of_a_plugin(cano: Cano, install: Install) -> None:
    """`--store` reaches the plugin that opens it; a store that fails is a failed run, not a wrong question."""
    install(
        "shelf",
        """
        from cano import StoreUnavailableError, hookimpl

        @hookimpl
        def cano_open_store(url):
            if url.startswith("shelf:"):
                raise StoreUnavailableError(f"cannot reach {url}")
        """,
    )

    result = cano("run", "flows:flow", "--store", "shelf://x")

    assert result.exit_code == 1
    assert result.stderr.startswith("Error: cannot reach shelf://x\n")
    assert "workflow: pages\n" in result.stderr


def test_block(cano: Cano, write: Write) -> None:
    """`--block` keeps a plugin from the run: without cano-retry there is no strategy named fixed."""
    write(
        "w.py",
        HEAD + "async def step(store): return 'b'\n"
        "flow = Workflow('a').register('a', step, config=TaskConfig('fixed')).add_exit_state('b')",
    )

    assert cano("run", "w").exit_code == 0
    assert cano("--block", "retry", "run", "w").exit_code == 2


@pytest.mark.parametrize("kind", ["async ", ""])
@pytest.mark.parametrize("code", ["0", "3", "'text'"])
def test_task_that_exits(cano: Cano, write: Write, kind: str, code: str) -> None:
    """A task that calls sys.exit() ends neither the command nor, as if all were well, the run."""
    write("w.py", HEAD + f"import sys\n{kind}def step(store):\n    sys.exit({code})\nflow = {TO_B}")

    result = cano("run", "w", "--run-id", "r1")

    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: a task called sys.exit({code}), which ends the program; return an exit state to end the run\n"
        f"  at:       w.py:4 in step: sys.exit({code})\n"
        "  workflow: w\n"
        "  state:    a, attempt 1\n"
        "  run:      r1\n"
        "  (--traceback prints the full traceback)\n"
    )


def test_task_that_cancels_itself(cano: Cano, write: Write) -> None:
    """A cancellation that nobody outside has asked for is a failure."""
    write(
        "w.py",
        HEAD + "import asyncio\nasync def step(store):\n    raise asyncio.CancelledError\n" + f"flow = {TO_B}",
    )

    result = cano("run", "w")

    assert result.exit_code == 1
    assert result.stderr.startswith("Error: task 'step' failed: CancelledError: it awaited something")
    assert "w.py" in result.stderr


@pytest.mark.parametrize("interrupt", ["raise KeyboardInterrupt", "signal.raise_signal(signal.SIGINT)"])
def test_interrupt(cano: Cano, write: Write, interrupt: str) -> None:
    """Ctrl-C cancels the run, waits for it to end, and is told with the place that the run had come to."""
    write(
        "w.py",
        HEAD + "import asyncio, signal\nasync def step(store):\n    "
        f"{interrupt}\n    await asyncio.Event().wait()\nflow = {TO_B}",
    )

    result = cano("run", "w", "--run-id", "r1", "--json")

    assert result.exit_code == 130
    assert result.stderr == (
        "Cancelled: the run was stopped\n  workflow: w\n  state:    a, attempt 1\n  run:      r1\n"
    )
    answer: dict[str, Any] = json.loads(result.stdout)
    assert answer["status"] == "cancelled"
    assert answer["run_id"] == "r1"


def test_interrupted_import(cano: Cano, write: Write) -> None:
    """Ctrl-C while the module is imported ends the command."""
    write("w.py", "raise KeyboardInterrupt\n")

    result = cano("run", "w")

    assert result.exit_code == 130
    assert result.stderr == "Stopped.\n"


def test_interrupted_before_the_run(cano: Cano, install: Install) -> None:
    """Ctrl-C while the kernel starts: there is no run to speak of yet."""
    install(
        "slow",
        """
        from cano import hookimpl

        @hookimpl
        def cano_kernel_started(kernel):
            raise KeyboardInterrupt
        """,
    )

    result = cano("run", "flows:flow")

    assert result.exit_code == 130
    assert result.stderr == "Cancelled: stopped before the run began\n  workflow: pages\n"


def test_split_and_sub_workflow(cano: Cano, write: Write) -> None:
    """Branches of a split with one task share a line; states of sub-workflows are marked as theirs."""
    write(
        "w.py",
        HEAD
        + "async def work(store): return None\n"
        + "async def step(store): return 'b'\n"
        + f"child = {TO_B}"
        + "flow = (Workflow('s', name='top', default_config=TaskConfig.minimal())\n"
        + "  .register_split('s', [work] * 3, JoinConfig(JoinStrategy.all(), 'c'))\n"
        + "  .register('c', SubWorkflow(child, then='d')).add_exit_state('d'))\n",
    )

    result = cano("run", "w:flow")

    assert result.exit_code == 0
    lines = [line.split("  ")[0] for line in result.stdout.splitlines()]
    assert lines[3:7] == ["s", "s (branch)", "c", "w/a"]
    assert re.search(r"^s \(branch\) +work +done +3 visits, 3 attempts", result.stdout, re.MULTILINE)


def test_a_lease_without_a_store(cano: Cano) -> None:
    """A run in memory has no lease, so the option is refused, not ignored."""
    result = cano("run", "flows:flow", "--lease", "3")

    assert result.exit_code == 2
    assert result.stderr == "Error: --lease requires --store URL: a run in memory has no lease\n"
