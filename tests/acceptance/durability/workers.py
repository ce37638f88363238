"""Worker processes of the command, and what their steps write into a pipe."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.acceptance.durability.pipes import LinePipe

ROOT = Path(__file__).parents[3]


class Told(LinePipe):
    """The lines that the steps of all workers write into the pipe, with `crowd.tell`."""

    def __init__(self, path: Path) -> None:
        self.lines: list[list[str]] = []
        super().__init__(path, lambda line: self.lines.append(line.split()))

    @property
    def begun(self) -> Counter[str]:
        """How often each step was begun."""
        return Counter(f"{run_id} {seq}" for _, what, run_id, seq in self.lines if what == "+")

    async def reached(self, steps: int) -> None:
        """Return when `steps` different steps have begun."""
        await self.until(lambda: len(self.begun) >= steps)


class Workers:
    """Worker processes on one store, which the test kills at its end.

    Args:
        url: the store's URL.
        module: the module with the workflows.
    """

    def __init__(self, url: str, module: str = "tests.acceptance.durability.crowd") -> None:
        self.processes: list[subprocess.Popen[str]] = []
        self._url = url
        self._module = module

    def start(self, flow: str, *options: str, cwd: Path = ROOT) -> subprocess.Popen[str]:
        """Start a worker."""
        arguments = ["worker", f"{self._module}:{flow}", "--store", self._url, *options]
        process = subprocess.Popen(
            [sys.executable, "-c", "from cano_cli.main import main; main()", *arguments],
            cwd=cwd, env=os.environ | {"CANO_BLOCK": "structlog,otel", "PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.processes.append(process)
        return process

    def watched(self, flow: str, *options: str) -> tuple[subprocess.Popen[str], str]:
        """Start a worker, and return the URL of its health, too."""
        process = self.start(flow, "--health", "0", *options)
        assert process.stderr is not None
        found = re.search(r"health: (http\S+)", first := process.stderr.readline())
        assert found, first
        return process, found[1]

    def kill(self) -> None:
        """Kill those that are left."""
        for process in self.processes:
            process.kill()
            process.wait()
            if process.stderr is not None:
                process.stderr.close()
