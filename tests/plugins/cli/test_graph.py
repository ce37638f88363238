"""`cano graph`: drawings of a workflow."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Cano = Callable[..., Result]
Write = Callable[[str, str], Path]

MIXED = r"""
    from typing import Literal
    from cano import TaskConfig, Workflow, task

    @task
    async def first(store) -> Literal["b", 'say "hi"\\']: ...

    @task
    async def second(store): ...

    flow = Workflow("a", name='odd "name"')
    flow.register("a", first).register("b", second, config=TaskConfig(on_exhausted="nowhere"))
    flow.add_exit_states(['say "hi"\\', "end"])
    alone = Workflow("x").add_exit_state("x")
"""


@pytest.mark.parametrize("args", [[], ["--format", "mermaid"]])
def test_mermaid(cano: Cano, args: list[str]) -> None:
    """Mermaid is the default, and is what the workflow itself draws."""
    result = cano("graph", "flows:flow", *args)

    assert result.exit_code == 0
    assert result.stdout == (
        "stateDiagram-v2\n"
        '    state "FETCH<br/>fetch" as s0_FETCH\n'
        '    state "PARSE<br/>parse" as s1_PARSE\n'
        '    state "DONE" as s2_DONE\n'
        "    [*] --> s0_FETCH\n"
        "    s0_FETCH --> s1_PARSE\n"
        "    s1_PARSE --> s2_DONE\n"
        "    s2_DONE --> [*]\n"
    )


def test_text(cano: Cano, write: Write) -> None:
    """As text: one line for each state, with its task and targets; start, exits and gaps are marked."""
    write("mixed.py", MIXED)

    assert cano("graph", "flows:flow", "--format", "text").stdout == (
        "FETCH  (start)  fetch  -> PARSE\n"
        "PARSE           parse  -> DONE\n"
        "DONE   (exit)\n"
    )  # fmt: skip
    assert cano("graph", "mixed:flow", "--format", "text").stdout == (
        "a          (start)    first   -> b, say \"hi\"\\\n"
        "b                     second  -> nowhere, or any state (undeclared)\n"
        "say \"hi\"\\  (exit)\n"
        "end        (exit)\n"
        "nowhere    (no task)\n"
    )  # fmt: skip
    assert cano("graph", "mixed:alone", "--format", "text").stdout == "x  (start, exit)\n"


def test_undeclared_alone(cano: Cano, write: Write) -> None:
    """A task that declares nothing may lead anywhere."""
    write("w.py", "from cano import *\nflow = Workflow('a').register('a', task(lambda s: 'b')).add_exit_state('b')")

    assert cano("graph", "w", "--format", "text").stdout == (
        "a  (start)  <lambda>  -> any state (undeclared)\nb  (exit)\n"
    )


def test_dot(cano: Cano, write: Write) -> None:
    """As a Graphviz digraph, in which names cannot do harm."""
    write("mixed.py", MIXED)

    result = cano("graph", "mixed:flow", "--format", "dot")

    assert result.exit_code == 0
    assert result.stdout == (
        'digraph "odd \\"name\\"" {\n'
        "  rankdir=LR;\n"
        '  node [shape=box, style=rounded, fontname="sans-serif"];\n'
        "  start [shape=point];\n"
        '  s0 [label="a\\nfirst"];\n'
        '  s1 [label="b\\nsecond"];\n'
        '  s2 [label="say \\"hi\\"\\\\", peripheries=2];\n'
        '  s3 [label="end", peripheries=2];\n'
        '  s4 [label="nowhere\\nno task", color=red];\n'
        "  start -> s0;\n"
        "  s0 -> s1;\n"
        "  s0 -> s2;\n"
        "  s1 -> s4;\n"
        '  any [label="any state", shape=plaintext];\n'
        "  s1 -> any [style=dashed];\n"
        "}\n"
    )


def test_refused(cano: Cano) -> None:
    """Another format, or no workflow, is refused with exit code 2."""
    assert cano("graph", "flows:flow", "--format", "png").exit_code == 2
    result = cano("graph", "flows:flo")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: there is no 'flo' in 'flows'; did you mean flow?\n")


def test_json(cano: Cano, write: Write) -> None:
    """For programs: each state with its task, its next states, and whether others may follow."""
    write("mixed.py", MIXED)
    found = json.loads(cano("graph", "mixed:flow", "--json").stdout)

    assert (found["workflow"], found["version"], found["start"]) == ('odd "name"', "1", "a")
    assert found["states"][:2] == [
        {"state": "a", "task": "first", "exit": False, "next": ["b", 'say "hi"\\'], "undeclared": False},
        {"state": "b", "task": "second", "exit": False, "next": ["nowhere"], "undeclared": True},
    ]
    assert {"state": "end", "task": None, "exit": True, "next": [], "undeclared": False} in found["states"]


def test_a_picture(cano: Cano, tmp_path: Path) -> None:
    """As SVG, by the file's name or by --format; the file is replaced."""
    file = tmp_path / "flow.svg"
    for _ in range(2):
        assert cano("graph", "flows:flow", "-o", str(file)).stdout == f"workflow pages drawn in {file}\n"
    assert file.read_text(encoding="utf-8") == cano("graph", "flows:flow", "--format", "svg").stdout
    assert 'data-state="FETCH"' in file.read_text(encoding="utf-8")
    wrong = cano("graph", "flows:flow", "-o", str(tmp_path / "missing" / "flow.svg"))
    assert (wrong.exit_code, "cannot be written: No such file or directory" in wrong.stderr) == (2, True)


def test_a_run_over_it(cano: Cano, tmp_path: Path, write: Write) -> None:
    """With --run, the run's way is drawn; a run of another workflow is refused, and so is another format."""
    write("other.py", "from cano import *\nflow = Workflow('a', name='other').add_exit_state('a')")
    store = ("--store", f"sqlite:///{tmp_path}/runs.db")
    assert cano("run", "flows:flow", "--run-id", "one", *store).exit_code == 0
    drawn = cano("graph", "flows:flow", "--format", "svg", "--run", "one", *store).stdout
    assert 'class="cano succeeded"' in drawn
    assert 'class="state exit current" data-state="DONE"' in drawn
    around = cano("graph", "flows:flow", "--format", "svg", "--around", "nowhere")
    assert (around.exit_code, "has no state 'nowhere'" in around.stderr) == (2, True)
    other = cano("graph", "other:flow", "--format", "svg", "--run", "one", *store)
    assert (other.exit_code, "run one is of workflow" in other.stderr) == (2, True)
    text = cano("graph", "flows:flow", "--run", "one", *store)
    assert (text.exit_code, "--run is for pictures; add --format svg" in text.stderr) == (2, True)
