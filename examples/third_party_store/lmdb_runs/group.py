"""Group commit: one thread takes all the calls that wait, and does them in one transaction, with one sync to disk."""

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
    """Does work in a transaction. What was written is on disk when this returns, and nothing is where it raises."""

    def __call__(self, work: Callable[[Transaction], None], write: bool, /) -> None: ...


class Job:
    """One call: its work, and what came of it.

    Attributes:
        begun: held once somebody has taken it: the thread, to do it, or its cancelled caller, to drop it.
        loop, wake: when it is done, the caller is woken in its event loop.
        done: whether it is, as far as that loop knows.
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
    """The thread. Calls are done in their order, and one that fails undoes no other."""

    def __init__(self, transact: Transact) -> None:
        self._transact = transact
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="lmdb-runs", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Return when all is done that was asked for before."""
        self._queue.put(None)
        self._thread.join()

    async def do(self, work: Callable[[Transaction], T], writes: bool) -> T:
        """What `work` returns. It may raise ConflictError before it has written anything.

        When this is cancelled, the work is not done, or it is done before the cancellation goes on.
        """
        job = Job(work, writes)
        self._queue.put(job)
        try:
            await job.wake
        except asyncio.CancelledError:
            while not job.done and not job.begun.acquire(blocking=False):
                job.wake = job.loop.create_future()  # the one before was cancelled
                with suppress(asyncio.CancelledError):  # so is this call, already
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
        except Exception as error:  # noqa: BLE001  # any of them may be to blame
            if len(jobs) == 1:
                jobs[0].error = error
            else:
                for job in jobs:
                    self._do([job])


def _tell(jobs: list[Job]) -> None:
    """Let their callers know; each event loop is woken once."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Job]] = {}
    for job in jobs:
        by_loop.setdefault(job.loop, []).append(job)
    for loop, done in by_loop.items():
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_wake, done)


def _wake(jobs: list[Job]) -> None:
    for job in jobs:
        job.done = True
        if not job.wake.done():  # or it was cancelled
            job.wake.set_result(None)
