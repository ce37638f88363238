"""A real Dask cluster for tests: a scheduler and its workers, each a process of its own."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import IO, Self

PATIENCE = 60.0


class Output:
    """What a process writes, read by a thread to the end, so that the process never waits for a reader."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read(self) -> None:
        """Read the lines, and an empty one at the end."""
        with self._stream:
            for line in self._stream:
                self._lines.put(line)
        self._lines.put("")

    def found(self, pattern: str) -> str:
        """Return the group of a pattern in the first line that has it, or fail with what was written."""
        lines = [""]
        while line := self._lines.get(timeout=PATIENCE):
            if found := re.search(pattern, line):
                return found[1]
            lines.append(line)
        raise AssertionError("a process of the Dask cluster does not start:" + "\n".join(lines))


class DaskCluster:
    """A scheduler and two workers, with one thread each.

    Attributes:
        address: the scheduler's address, such as `tcp://127.0.0.1:40001`.
    """

    def __init__(self, folder: Path) -> None:
        env = os.environ | {
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0", "PYTHONPATH": os.pathsep.join(sys.path),
        }  # fmt: skip
        self._folder, self._env = folder, env
        self._processes: list[subprocess.Popen[str]] = []
        self._readers: list[threading.Thread] = []
        self.address = ""
        try:
            options = "--host", "127.0.0.1", "--port", "0", "--no-dashboard"
            self.scheduler, output = self._start("scheduler", *options)
            self.address = output.found(r"Scheduler at:\s+(tcp://\S+)")
            options = "--nthreads", "1", "--no-dashboard", "--local-directory", str(folder)
            workers = [self._start("worker", self.address, *options, "--resources", "GPU=1") for _ in range(2)]
            for _, output in workers:
                output.found(r"(Registered to:)")
        except BaseException:
            self.stop()
            raise

    def _start(self, kind: str, *options: str) -> tuple[subprocess.Popen[str], Output]:
        process = subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.dask_{kind}", *options], env=self._env, cwd=self._folder,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
        assert process.stdout is not None
        output = Output(process.stdout)
        self._processes.append(process)
        self._readers.append(threading.Thread(target=output.read, daemon=True))
        self._readers[-1].start()
        return process, output

    def stop(self) -> None:
        """Kill all of it."""
        for process in self._processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for reader in self._readers:
            reader.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
