"""What `import cano` costs in a fresh process."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile

from tests.benchmarks.measure import Line

PROGRAM = "import time; begin = time.process_time(); {}; print(time.process_time() - begin)"
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
