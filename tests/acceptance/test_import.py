"""What `import cano` does, where every plugin is installed."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

PLUGINS = "sorted(name for name in sys.modules if name.startswith('cano_') and '.' not in name)"


def python(program: str) -> Any:
    """What a fresh process prints, read as JSON. Warnings are errors, and it must say nothing else."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return json.loads(done.stdout)


def test_no_plugin_is_imported_before_a_kernel_starts() -> None:
    """Plugins are imported when a kernel loads them: not with cano, not with a workflow, not with a new kernel."""
    program = (
        "import json, sys, cano\n"
        f"imported = {PLUGINS}\n"
        "cano.Workflow('a').register('a', lambda store: 'b').add_exit_state('b').validate()\n"
        "kernel = cano.Kernel()\n"
        f"made = {PLUGINS}\n"
        "kernel.load()\n"
        f"loaded = {PLUGINS}\n"
        "print(json.dumps([imported, made, loaded]))\n"
    )
    imported, made, loaded = python(program)

    assert (imported, made) == ([], [])
    assert {"cano_memory", "cano_retry"} <= set(loaded)


def test_importing_is_light() -> None:
    """Importing cano imports pluggy and nothing else from outside, and none of Python's own heavy modules:

    asyncio comes with what drives runs, when that is first asked for.
    """
    program = (
        "import json, sys; before = set(sys.modules); import cano\n"
        "new = set(sys.modules) - before\n"
        "tops = {name.partition('.')[0] for name in new}\n"
        "print(json.dumps([sorted(tops - set(sys.stdlib_module_names)), sorted(tops)]))\n"
    )
    foreign, everything = python(program)

    assert foreign == ["cano", "pluggy"]
    heavy = {
        "asyncio",
        "logging",
        "ssl",
        "sqlite3",
        "xml",
        "http",
        "unittest",
        "ctypes",
        "multiprocessing",
        "tkinter",
        "curses",
        "pdb",
    }
    assert heavy & set(everything) == set()


def test_a_workflow_is_defined_without_asyncio() -> None:
    """States, tasks, nodes, splits and limits are defined with what `import cano` has loaded."""
    program = (
        "import json, sys, cano\n"
        "class N(cano.Node):\n"
        "    async def prep(self, store): ...\n"
        "    async def exec(self, prepared): ...\n"
        "    async def post(self, store, prepared, result): return 'b'\n"
        "join = cano.JoinConfig(cano.JoinStrategy.all(), 'c')\n"
        "flow = cano.Workflow('a', limit=2).register('a', N(), config=cano.TaskConfig(timeout=1))\n"
        "flow.register_split('b', [cano.task(lambda store: None)], join).add_exit_state('c').validate()\n"
        "print(json.dumps('asyncio' in sys.modules))\n"
    )

    assert python(program) is False
