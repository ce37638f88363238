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
import contextlib, io, json, runpy, sys, cano
seen = {}
for path in sys.argv[1:]:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        flow = runpy.run_path(path)["flow"].validate()
    drawn = flow.mermaid().startswith("stateDiagram-v2")
    seen[path] = printed.getvalue(), cano.undeclared(flow), len(list(cano.edges(flow))), drawn
print(json.dumps(seen))
"""

RunPython = Callable[..., subprocess.CompletedProcess[str]]


def test_flows_are_valid_and_drawn_whole(run_python: RunPython, root: Path) -> None:
    """Importing an example prints nothing, and every task declares its targets."""
    paths = [str(root / "examples" / f"{name}.py") for name in EXAMPLES]

    done = run_python("-c", LOOK, *paths)

    assert (done.returncode, done.stderr) == (0, "")
    seen = json.loads(done.stdout)
    assert [*seen] == paths
    for path, (printed, undeclared, edges, drawn) in seen.items():
        assert (printed, undeclared, drawn) == ("", [], True), path
        assert edges >= 1, path


@pytest.mark.parametrize("name", sorted({*EXAMPLES} - {"dataclass_store", WAITING}))
def test_the_command_line_runs_it(run_cano: RunPython, name: str) -> None:
    """The workflow succeeds without any data, and with its executors in the process of the command."""
    done = run_cano("run", f"examples/{name}.py:flow", "--json", "--executor", "words=")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["state"] in {"DONE", "AGREED", "SHIPPED", "ON_HOLD", "ANSWERED"}


def test_the_command_line_cannot_make_an_object(run_cano: RunPython) -> None:
    """As the README says, this example needs a dataclass."""
    done = run_cano("run", "examples/dataclass_store.py:flow")

    assert done.returncode == 1
    assert "AttributeError" in done.stderr
