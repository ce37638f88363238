"""A real Dask cluster for tests: a scheduler and its workers, each a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

PATIENCE = 60.0


class DaskCluster:
    """A scheduler and two workers, with one thread each.

    Attributes:
        address: the scheduler's address, such as `tcp://127.0.0.1:40001`.
    """

    def __init__(self, folder: Path, failures: int = 0) -> None:
        env = os.environ | {
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": str(failures), "PYTHONPATH": os.pathsep.join(sys.path),
        }  # fmt: skip
        self._folder, self._env = folder, env
        self._processes: list[subprocess.Popen[bytes]] = []
        self.address = ""
        try:
            self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
            self.address = self._found("scheduler", r"Scheduler at:\s+(tcp://\S+)")
            for number in range(2):
                self._start(
                    f"worker{number}", self.address, "--nthreads", "1", "--no-dashboard", "--local-directory",
                    str(folder), "--resources", "GPU=1",
                )  # fmt: skip
            for number in range(2):
                self._found(f"worker{number}", r"(Registered to:)")
        except BaseException:
            self.stop()
            raise

    def _start(self, name: str, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "distributed.cli.dask_" + name.rstrip("01"), *options]
        with (self._folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                command, env=self._env, cwd=self._folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self._processes.append(process)
        return process

    def _found(self, name: str, pattern: str) -> str:
        """What a process has written to its log."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            text = (self._folder / f"{name}.log").read_text()
            if found := re.search(pattern, text):
                return found[1]
            if any(process.poll() is not None for process in self._processes):
                break
            time.sleep(0.02)
        raise AssertionError(f"the Dask {name} does not start:\n{text}")

    def stop(self) -> None:
        """Kill all of it."""
        for process in self._processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
