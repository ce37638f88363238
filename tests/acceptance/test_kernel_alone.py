"""The kernel's wheel, alone in an empty venv."""

from __future__ import annotations

import re
import zipfile
from email.parser import Parser
from pathlib import Path

from tests.acceptance.venvs import ROOT, Venv

RUN = """
import asyncio, enum, json
from cano import Kernel, Node, TaskConfig, Workflow, task

class State(enum.Enum):
    LOAD = 1
    COUNT = 2
    DONE = 3

@task
def load(store):
    store["words"] = store["text"].split()
    return State.COUNT

class Count(Node):
    async def prep(self, store):
        return store["words"]
    async def exec(self, words):
        return len(words)
    async def post(self, store, words, number):
        store["number"] = number
        return State.DONE

flow = Workflow(State.LOAD).register(State.LOAD, load).register(State.COUNT, Count()).add_exit_state(State.DONE)
data = {"text": "the more the merrier"}
state = flow.orchestrate_sync(data)

async def main():
    async with Kernel() as kernel:
        return await kernel.run(flow, {"text": "once more"}), [info.name for info in kernel.load()]

result, plugins = asyncio.run(main())
print(json.dumps([state.name, data, result.state.name, result.data, result.steps, plugins]))
"""

LOOK = """
import json, sys
from importlib.metadata import distributions
before = set(sys.modules)
import cano
new = {name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)
print(json.dumps([sorted(new), sorted(each.name for each in distributions()), cano.__file__]))
"""


def test_it_runs_a_workflow_on_a_dict(kernel_venv: Venv) -> None:
    """With the built-in plugin alone, a workflow of a function and a node runs on a dict, in both ways, silently."""
    assert kernel_venv.json(RUN) == [
        "DONE",
        {"text": "the more the merrier", "words": ["the", "more", "the", "merrier"], "number": 4},
        "DONE",
        {"text": "once more", "words": ["once", "more"], "number": 2},
        2,
        ["concurrency"],
    ]


def test_the_example_of_its_page_works(kernel_venv: Venv) -> None:
    """The program in the README needs no plugin, and prints what its comment says."""
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "kernel" / "README.md").read_text("utf-8"), re.DOTALL)
    done = kernel_venv.run(program)

    assert (done.returncode, done.stderr) == (0, "")
    assert re.findall(r"^print\(.*\)  # (.*)$", program, re.MULTILINE) == done.stdout.splitlines() == ["DONE 4"]


def test_it_needs_pluggy_and_nothing_else(kernel_venv: Venv) -> None:
    """Installing it brings pluggy alone, and importing it imports nothing else that is not Python's own."""
    imported, installed, place = kernel_venv.json(LOOK)

    assert imported == ["cano", "pluggy"]
    assert installed == ["cano", "pluggy"]
    assert Path(place).is_relative_to(kernel_venv.python.parents[1])


def test_what_is_missing_is_named(kernel_venv: Venv) -> None:
    """Asked for a store or a strategy that only a plugin has, it says which distribution to install."""
    program = (
        "import asyncio, cano\n"
        "try: asyncio.run(cano.Kernel(store='sqlite:///runs.db').open())\n"
        "except cano.ConfigurationError as error: print(error)\n"
        "flow = cano.Workflow('a', default_config=cano.TaskConfig(retry='exponential'))\n"
        "flow.register('a', lambda store: 'b').add_exit_state('b')\n"
        "try: flow.orchestrate_sync({})\n"
        "except cano.ConfigurationError as error: print(error)\n"
    )
    store, strategy = kernel_venv.run(program).stdout.splitlines()

    assert "'sqlite:///runs.db'" in store
    assert "cano-sqlite" in store
    assert "'exponential'" in strategy
    assert "cano-retry" in strategy


def test_the_wheel_holds_the_package_alone(kernel_wheel: Path) -> None:
    """It has the typed package and its testing kit, wants pluggy only, and takes the plugins as extras."""
    with zipfile.ZipFile(kernel_wheel) as wheel:
        names = wheel.namelist()
        metadata = Parser().parsestr(
            wheel.read(next(name for name in names if name.endswith("/METADATA"))).decode("utf-8")
        )
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"cano"}
    assert {"cano/py.typed", "cano/testing/__init__.py"} <= set(names)
    assert [need for need in metadata.get_all("Requires-Dist", []) if "extra ==" not in need] == ["pluggy<2,>=1.7"]
    assert metadata["Requires-Python"] == ">=3.11"
    assert {"standard", "all"} <= set(metadata.get_all("Provides-Extra", []))
