"""What `import cano` and the `cano` command cost in a fresh process."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.benchmarks.measure import Line

PROGRAM = "import time; begin = time.process_time(); {}; print(time.process_time() - begin)"
COMMAND = "from cano_cli.main import main; main()"
FLOW = """
from cano import Workflow

async def nothing(store):
    return "done"

flow = Workflow("nothing").register("nothing", nothing).add_exit_state("done")
"""
DEFINING, DRIVING, ASYNCIO = "import cano", "from cano import Kernel", "import asyncio"


def import_time(times: int) -> list[Line]:
    """The median over several processes, of the time of the processor; and how much of it is asyncio's own.

    As in an installed program, what is imported was compiled before: by a first process, which does not count.
    """
    taken: dict[str, list[float]] = {DEFINING: [], DRIVING: [], ASYNCIO: []}
    with tempfile.TemporaryDirectory() as compiled:
        kept = {**os.environ, "PYTHONPYCACHEPREFIX": compiled, "PYTHONDONTWRITEBYTECODE": ""}
        for _ in range(times + 1):
            for statement, seconds in taken.items():
                command = [sys.executable, "-c", PROGRAM.format(statement)]
                done = subprocess.run(command, capture_output=True, check=True, text=True, env=kept)
                seconds.append(float(done.stdout))
    defining, driving, asyncio = (statistics.median(seconds[1:]) * 1e3 for seconds in taken.values())
    against = f"nothing (median of {times})"
    return [
        Line(DEFINING, against, defining, "ms", 60.0),
        Line(f"{DRIVING}, asyncio with it", against, driving, "ms"),
        Line(f"{ASYNCIO}, by itself", against, asyncio, "ms"),
    ]


def command_time(times: int) -> list[Line]:
    """The median time of the processor of whole commands: a list of the commands, and a run of one step."""
    commands: dict[str, tuple[list[str], float]] = {
        "cano --help": (["--help"], 120.0),
        "cano run, a step that does nothing": (["run", "nothing.py:flow"], 200.0),
    }
    taken: dict[str, list[float]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "nothing.py").write_text(FLOW, encoding="utf-8")
        kept = {**os.environ, "PYTHONPYCACHEPREFIX": folder, "PYTHONDONTWRITEBYTECODE": ""}
        for _ in range(times + 1):
            for name, (arguments, _goal) in commands.items():
                taken[name].append(_processor_time([sys.executable, "-c", COMMAND, *arguments], folder, kept))
    against = f"nothing (median of {times})"
    return [
        Line(name, against, statistics.median(taken[name][1:]) * 1e3, "ms", goal)
        for name, (_, goal) in commands.items()
    ]


def _processor_time(command: list[str], folder: str, environment: Mapping[str, str]) -> float:
    """Run a command to its end and return its processor's time in seconds, that of the system included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, capture_output=True, check=True, cwd=folder, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
