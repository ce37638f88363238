"""What `import cano` costs in a fresh process."""

from __future__ import annotations

import statistics
import subprocess
import sys

from tests.benchmarks.measure import Line

PROGRAM = "import time; begin = time.process_time(); import {}; print(time.process_time() - begin)"


def import_time(times: int) -> list[Line]:
    """The median over several processes, of the time of the processor; and how much of it is asyncio's own."""
    taken: dict[str, list[float]] = {"cano": [], "asyncio": []}
    for _ in range(times):
        for module, seconds in taken.items():
            command = [sys.executable, "-c", PROGRAM.format(module)]
            seconds.append(float(subprocess.run(command, capture_output=True, check=True, text=True).stdout))
    cano, asyncio = (statistics.median(seconds) * 1e3 for seconds in taken.values())
    against = f"nothing (median of {times})"
    return [
        Line("import cano", against, cano, "ms", 60.0),
        Line("import asyncio, a part of it", against, asyncio, "ms"),
    ]
