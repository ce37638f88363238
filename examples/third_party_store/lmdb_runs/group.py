"""Group commit: one thread takes all the calls that wait, and does them in one transaction, with one sync to disk."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from cano import ConflictError

if TYPE_CHECKING:
    import lmdb

    Transaction = lmdb.Transaction[bytes]

T = TypeVar("T")
HOLD = 0.001
"""Seconds for which a caller may hold up the event loop, for to wake it takes half as long as most commits."""


class Transact(Protocol):
    """Does work in a transaction. What was written is on disk when this returns, and nothing is where it raises."""

    def __call__(self, work: Callable[[Transaction], None], write: bool, /) -> None: ...


class Job:
    """One call: its work, and what came of it.

    Attributes:
        begun: held once somebody has taken it: the thread, to do it, or its cancelled caller, to drop it.
        done: held until it is done.
        wake: where there is one, to be called then, in `loop`.
    """

    __slots__ = ("begun", "done", "error", "result", "wake", "work", "writes")

    def __init__(self, work: Callable[[Transaction], Any], writes: bool) -> None:
        self.work, self.writes = work, writes
        self.begun, self.done = threading.Lock(), threading.Lock()
        self.done.acquire()
        self.wake: asyncio.Future[None] | None = None
        self.result: Any = None
        self.error: Exception | None = None


class Group:
    """The thread. Calls are done in their order, and one that fails undoes no other."""

    def __init__(self, transact: Transact) -> None:
        self._transact = transact
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._under_way: set[Job] = set()
        self._held = 0.0
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
        self._under_way.add(job)
        try:
            if self._held > HOLD:
                self._held = 0.0
                await asyncio.sleep(0)  # the others' turn
            if len(self._under_way) > 1 or not self._wait_on_the_spot(job):
                await _until_done(job)
        except asyncio.CancelledError:
            while not job.begun.acquire(blocking=False) and job.done.locked():
                with suppress(asyncio.CancelledError):  # it is being cancelled already
                    await _until_done(job)
            raise
        finally:
            self._under_way.discard(job)
        if job.error is not None:
            raise job.error
        result: T = job.result
        return result

    def _wait_on_the_spot(self, job: Job) -> bool:
        """Whether it is done by now."""
        begin = perf_counter()
        done = job.done.acquire(timeout=HOLD)
        self._held += perf_counter() - begin
        return done

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


async def _until_done(job: Job) -> None:
    job.wake = asyncio.get_running_loop().create_future()
    if job.done.locked():  # or the thread may have seen that nobody is to be woken
        await job.wake


def _tell(jobs: list[Job]) -> None:
    """Let their callers know; each event loop is woken once."""
    sleeping: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for job in jobs:
        job.done.release()
        if job.wake is not None:
            sleeping.setdefault(job.wake.get_loop(), []).append(job.wake)
    for loop, futures in sleeping.items():
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_wake, futures)


def _wake(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():  # or its caller was cancelled
            future.set_result(None)
