"""`ProcessExecutor`: executes calls in worker processes of this machine."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from pathlib import Path
from typing import Any

from cano import Call, ConfigurationError, ExecutorError, ExecutorUnavailableError, RemoteError, WorkerLostError
from cano.options import whole

from cano_process import frames
from cano_process.frames import NAME

GUARD = "put the part that starts the kernel behind `if __name__ == '__main__':`"
_NO_MORE = sys.maxsize
"""The place of the end of all calls in the queue: behind all of them."""


class _Job:
    """A call, from `submit` to the end of its execution."""

    def __init__(self, call: Call) -> None:
        self.name = f"{call.function.__module__}:{call.function.__qualname__}"
        (self.request,) = call.args
        self.report = call.report
        self.answer: Future[bytes] = Future()
        self.over: Future[None] = Future()
        """Done when no process executes the call, nor will."""
        self.cancelled = False
        self.process: subprocess.Popen[bytes] | None = None


class ProcessExecutor:
    """Executes calls in worker processes, which start when they are needed.

    A call whose attempt is cancelled, or exceeds its timeout, is stopped: its worker is killed, and replaced when the
    next call needs it. Calls that wait for a worker begin in the order of their priority. Any event loop may use it.

    Args:
        workers: the most processes at once; None for the number of CPUs that this process may use.

    Raises:
        ConfigurationError: `workers` is not a whole number above 0.
    """

    remote = True
    abandons = False
    reports = True
    resources: frozenset[str] = frozenset()

    def __init__(self, workers: int | None = None) -> None:
        self._most = _cpus() if workers is None else whole("workers", workers, 1)
        self._calls: queue.PriorityQueue[tuple[int, int, _Job | None]] = queue.PriorityQueue()
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._waiting = 0
        """Calls that have not begun, minus threads that wait for one."""
        self._closed = False

    async def open(self) -> None:
        """Let it execute calls, again after `close`."""
        self._closed = False

    async def close(self) -> None:
        """End the workers after the calls that they execute."""
        with self._lock:
            self._closed = True
            threads = list(self._threads)
        for _ in threads:
            self._calls.put((_NO_MORE, next(self._numbers), None))
        for thread in threads:
            await asyncio.to_thread(thread.join)

    async def submit(self, call: Call) -> Any:
        """See `Executor.submit`."""
        job = _Job(call)
        if sys.modules["__main__"] is not sys.modules.get(NAME, sys.modules["__main__"]):
            raise ConfigurationError(f"the program starts workers while a worker imports it: {GUARD}")
        with self._lock:
            if self._closed:
                raise ExecutorUnavailableError("the executor process:// is closed")
            self._waiting += 1
            if self._waiting > 0 and len(self._threads) < self._most:
                thread = threading.Thread(target=self._work, name="cano-process", daemon=True)
                self._threads.add(thread)
                thread.start()
        self._calls.put((-call.priority, next(self._numbers), job))
        try:
            return await asyncio.wrap_future(job.answer)
        except asyncio.CancelledError:
            self._stop(job)
            await _until_over(job)
            raise

    def _stop(self, job: _Job) -> None:
        with self._lock:
            job.cancelled = True
            if job.process is not None:
                job.process.kill()
            elif not job.over.done():
                job.over.set_result(None)  # it has not begun, and will not

    def _work(self) -> None:
        """Execute calls in one worker process after the other; each thread has one at a time."""
        worker: _Worker | None = None
        while True:
            with self._lock:
                self._waiting -= 1
            _, _, job = self._calls.get()
            if job is None:
                break
            with self._lock:
                if job.cancelled:
                    continue
                try:
                    worker = worker if worker is not None and worker.alive() else _Worker()
                except OSError as error:
                    _settle(job, ExecutorUnavailableError(f"no worker process can be started: {error}"))
                    continue
                job.process = worker.process
            outcome: bytes | ExecutorError | None = worker.execute(job)
            if outcome is None:
                outcome, worker = WorkerLostError(f"worker process {worker.end()}"), None
            with self._lock:  # in one piece, so that `_stop` finds the call executing or over
                job.process, killed = None, job.cancelled
                _settle(job, outcome)
            if killed and worker is not None:  # just after its answer
                worker.end()
                worker = None
        if worker is not None:
            worker.end()
        with self._lock:
            self._threads.discard(threading.current_thread())
            self._waiting += 1


def _settle(job: _Job, outcome: bytes | ExecutorError) -> None:
    with suppress(InvalidStateError):  # its caller no longer waits
        if isinstance(outcome, bytes):
            job.answer.set_result(outcome)
        else:
            job.answer.set_exception(outcome)
    job.over.set_result(None)


async def _until_over(job: _Job) -> None:
    """Wait until no process executes the call: a moment, since its process was killed."""
    over = asyncio.wrap_future(job.over)
    while not over.done():
        try:
            await asyncio.shield(over)
        except asyncio.CancelledError:
            continue  # the caller raises the first one


class _Worker:
    """A worker process, and the socket to it. Raises OSError if it cannot be started."""

    def __init__(self) -> None:
        self._connection, theirs = socket.socketpair()
        command = [sys.executable, "-m", "cano_process.worker", str(theirs.fileno())]
        with theirs:
            try:
                fds = (theirs.fileno(),)
                self.process = subprocess.Popen(command, pass_fds=fds, stdin=subprocess.DEVNULL)
            except OSError:
                self._connection.close()
                raise
        frames.send(self._connection, json.dumps({"path": sys.path, "main": _main()}).encode())

    def alive(self) -> bool:
        """Return whether the process has not ended."""
        return self.process.poll() is None

    def execute(self, job: _Job) -> bytes | RemoteError | None:
        """Return what the function of a call returns; None if the process ended before."""
        kind = frames.PLAIN if job.report is None else frames.REPORTING
        try:
            frames.send(self._connection, kind, job.name.encode(), frames.END, job.request)
        except OSError:
            return None
        while (answer := frames.receive(self._connection)) is not None and answer[:1] == frames.REPORTED:
            if job.report is not None and not job.cancelled:
                job.report(answer[1:])
        if answer is None or answer[:1] == frames.RETURNED:
            return answer and answer[1:]
        return RemoteError(f"{job.name} failed: {answer[1:].decode()}")

    def end(self) -> str:
        """Let the process end, which it does when its socket is closed; return how it did, for messages."""
        self._connection.close()
        code = self.process.wait()
        if code == frames.NOT_IMPORTED:
            return f"{self.process.pid} could not import the program; its traceback is on stderr; {GUARD}"
        try:
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        except ValueError:
            how = f"was killed by signal {-code}"
        return f"{self.process.pid} {how}"


def _cpus() -> int:
    """Return the number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _main() -> dict[str, str]:
    """Return the module or the file of the program that this process executes, if a worker can import it."""
    main = sys.modules["__main__"]
    if (spec := getattr(main, "__spec__", None)) is not None:
        return {} if spec.name.endswith(".__main__") else {"module": spec.name}  # a package's has no tasks
    path = Path(getattr(main, "__file__", None) or "")
    return {"file": str(path.absolute())} if path.is_file() else {}
