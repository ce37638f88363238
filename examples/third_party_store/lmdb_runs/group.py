"""Group commit: one thread takes all waiting calls, and does them in one transaction with one sync."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from cano import ConflictError

if TYPE_CHECKING:
    import lmdb

    Transaction = lmdb.Transaction[bytes]

T = TypeVar("T")


class Transact(Protocol):
    """Does work in a transaction. When it returns, the writes are on disk; if it raises, nothing is."""

    def __call__(self, work: Callable[[Transaction], None], write: bool, /) -> None: ...


class Job:
    """One call and its result.

    Attributes:
        begun: acquired by the thread to do the call, or by the cancelled caller to drop it.
        loop, wake: the caller's event loop, and the future that it waits for.
        done: whether the loop knows that the call is done.
    """

    __slots__ = ("begun", "done", "error", "loop", "result", "wake", "work", "writes")

    def __init__(self, work: Callable[[Transaction], Any], writes: bool) -> None:
        self.work, self.writes = work, writes
        self.begun = threading.Lock()
        self.loop = asyncio.get_running_loop()
        self.wake: asyncio.Future[None] = self.loop.create_future()
        self.done = False
        self.result: Any = None
        self.error: Exception | None = None


class Group:
    """The thread. It does the calls in their order; a failing one undoes no other."""

    def __init__(self, transact: Transact) -> None:
        self._transact = transact
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="lmdb-runs", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Finish the waiting calls, and end the thread."""
        self._queue.put(None)
        self._thread.join()

    async def do(self, work: Callable[[Transaction], T], writes: bool) -> T:
        """Return the result of `work`, which may raise ConflictError before it has written anything.

        Cancellation: the work is dropped, or it is completed before the cancellation is raised.
        """
        job = Job(work, writes)
        self._queue.put(job)
        try:
            await job.wake
        except asyncio.CancelledError:
            while not job.done and not job.begun.acquire(blocking=False):
                job.wake = job.loop.create_future()  # the previous future was cancelled
                with suppress(asyncio.CancelledError):  # the caller is cancelled already
                    await job.wake
            raise
        if job.error is not None:
            raise job.error
        result: T = job.result
        return result

    # in the thread

    def _serve(self) -> None:
        jobs: list[Job | None] = []
        while None not in jobs:
            jobs = [self._queue.get()]
            while not self._queue.empty():
                jobs.append(self._queue.get())
            taken = [job for job in jobs if job is not None and job.begun.acquire(blocking=False)]
            self._do(taken)
            _tell(taken)

    def _do(self, jobs: list[Job]) -> None:
        def work(txn: Transaction) -> None:
            for job in jobs:
                job.error = None
                try:
                    job.result = job.work(txn)
                except ConflictError as error:
                    job.error = error

        try:
            self._transact(work, any(job.writes for job in jobs))
        except Exception as error:  # noqa: BLE001  # any of them may have caused it
            if len(jobs) == 1:
                jobs[0].error = error
            else:
                for job in jobs:
                    self._do([job])


def _tell(jobs: list[Job]) -> None:
    """Wake the callers, each event loop once."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Job]] = {}
    for job in jobs:
        by_loop.setdefault(job.loop, []).append(job)
    for loop, done in by_loop.items():
        with suppress(RuntimeError):  # the loop is closed, so no caller waits
            loop.call_soon_threadsafe(_wake, done)


def _wake(jobs: list[Job]) -> None:
    for job in jobs:
        job.done = True
        if not job.wake.done():  # done: cancelled
            job.wake.set_result(None)
