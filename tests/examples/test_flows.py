"""Every example has a workflow that can be checked, drawn and run from the command line."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ALL = sorted(path.stem for path in (Path(__file__).parents[2] / "examples").glob("*.py"))
WAITING = "encrypted_runs"  # its run waits for an answer that no command line sends
EXAMPLES = [name for name in ALL if not name.startswith("schedule_")]  # those have a scheduler, not a workflow, to run
LOOK = """
import runpy, sys, cano
flow = runpy.run_path(sys.argv[1])["flow"].validate()
print([cano.undeclared(flow), len(list(cano.edges(flow))), flow.mermaid().startswith("stateDiagram-v2")])
"""

RunPython = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize("name", EXAMPLES)
def test_flow_is_valid_and_drawn_whole(run_python: RunPython, root: Path, name: str) -> None:
    """Importing prints nothing, and every task declares its targets."""
    done = run_python("-c", LOOK, root / "examples" / f"{name}.py")

    assert (done.returncode, done.stderr) == (0, "")
    undeclared, edges, drawn = json.loads(done.stdout.replace("True", "true"))
    assert (undeclared, drawn) == ([], True)
    assert edges >= 2


@pytest.mark.parametrize("name", sorted({*EXAMPLES} - {"dataclass_store", WAITING}))
def test_the_command_line_runs_it(run_cano: RunPython, name: str) -> None:
    """The workflow succeeds without any data."""
    done = run_cano("run", f"examples/{name}.py:flow", "--json")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["state"] in {"DONE", "AGREED", "SHIPPED", "ON_HOLD"}


def test_the_command_line_cannot_make_an_object(run_cano: RunPython) -> None:
    """As the README says, this example needs a dataclass."""
    done = run_cano("run", "examples/dataclass_store.py:flow")

    assert done.returncode == 1
    assert "AttributeError" in done.stderr
