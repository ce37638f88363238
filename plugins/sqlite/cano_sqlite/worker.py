"""A thread that owns a connection, does jobs with it, and hands the results back to the event loops that asked."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Protocol

from cano import StoreUnavailableError

MOST_JOBS = 100
MOST_BYTES = 8 * 1024 * 1024
"""How much is taken into one transaction, more or less."""

MANY = 16
"""Of so many jobs that wait, half go first: later the event loop works for them while the others are done."""


class Job:
    """One call, and what came of it.

    Attributes:
        work: what is to be done; what it is depends on the hand.
        run_id: the run concerned, for error messages.
        size: about how many bytes it writes.
        loop, future: who waits for it.
        state: how far it is; guarded by the worker's lock.
        result, error: what came of it.
    """

    WAITING, TAKEN, DONE = range(3)

    state = WAITING
    result: Any = None
    error: Exception | None = None

    def __init__(self, work: Any, run_id: str | None, size: int, loop: asyncio.AbstractEventLoop) -> None:
        self.work = work
        self.run_id = run_id
        self.size = size
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()


class Hand(Protocol):
    """Does the jobs. `open`, `carry_out` and `close` are called in the worker's thread.

    Attributes:
        writes: whether its jobs change something.
    """

    writes: bool

    def open(self) -> None:
        """Connect."""
        ...

    def carry_out(self, take: Callable[[], list[Job]], pause: Callable[[], None]) -> None:
        """Do jobs, setting the result or error of each.

        Args:
            take: jobs that have come in since it was called last; empty where there are none, or enough for once.
            pause: to be called before something is waited for: those whose jobs were done before go on meanwhile.
        """
        ...

    def failed(self, error: Exception, run_id: str | None) -> Exception:
        """What the caller of a job is told that `error` put an end to."""
        ...

    def close(self) -> None:
        """Disconnect."""
        ...


class Worker:
    """The thread.

    Attributes:
        opened: done when its hand is open, or could not be opened.
        ended: done when all that was submitted is done and the hand is closed.
        hold: held by whoever uses the hand.
    """

    def __init__(self, name: str, hand: Hand, closed: str) -> None:
        self._hand = hand
        self._closed = closed
        self._lock = threading.Lock()  # whoever changes what is known of jobs has it
        self._news = threading.Lock()  # the thread waits for it when there is nothing to do
        self._news.acquire()
        self.hold = threading.Lock()
        self._pid = os.getpid()
        self._stopped = False
        self._waiting: list[Job] = []
        self._taken: list[Job] = []
        self._done: list[Job] = []
        self._under_way = 0
        self.opened: Future[None] = Future()
        self.ended: Future[None] = Future()
        for future in (self.opened, self.ended):
            future.set_running_or_notify_cancel()  # so that whoever waits for it cannot cancel it
        self._thread = threading.Thread(target=self._live, name=name, daemon=True)
        self._thread.start()

    async def do(self, work: Any, run_id: str | None = None, size: int = 0) -> Any:
        """The result of `work`, once it is done.

        When this is cancelled, the work is not done, or it is done before the cancellation goes on: never later.
        """
        if os.getpid() != self._pid:
            raise StoreUnavailableError(
                "the store was opened by the process that this one was forked from; open another"
            )
        job = Job(work, run_id, size, asyncio.get_running_loop())
        with self._lock:
            if self._stopped:
                raise StoreUnavailableError(self._closed)
            self._under_way += 1
            self._waiting.append(job)
            if self._under_way == 1:
                self._wake()
        try:
            return await job.future
        except asyncio.CancelledError:
            await self._withdraw(job)
            raise

    async def _withdraw(self, job: Job) -> None:
        """Take a job back; where it is too late for that, and it changes something, wait until it is done."""
        with self._lock:
            if job.state == Job.WAITING:
                job.state = Job.DONE
                self._under_way -= 1
        while job.state != Job.DONE and self._hand.writes:
            job.future = job.loop.create_future()
            with suppress(asyncio.CancelledError):  # it is being cancelled already
                await asyncio.wait((job.future,))
        if job.future.done() and not job.future.cancelled():
            job.future.exception()  # or asyncio would report that nobody has looked at it

    @property
    def idle(self) -> bool:
        """Whether the thread is this process's, has nothing to do, and will do nothing while its `hold` is held."""
        return not self._under_way and not self._stopped and os.getpid() == self._pid

    def stop(self) -> None:
        """Let it end once it has done what was submitted before."""
        with self._lock:
            if not self._stopped:
                self._stopped = True
                self._wake()

    def _wake(self) -> None:
        if self._news.locked():
            self._news.release()

    def join(self) -> None:
        """Wait for the thread itself, which has next to nothing left to do once `ended` is done."""
        self._thread.join()

    # in the thread

    def _live(self) -> None:
        try:
            self._serve()
        finally:
            self.stop()
            self._fail(StoreUnavailableError(self._closed))  # what came in while the hand could not be opened
            self._deliver()
            self.ended.set_result(None)

    def _serve(self) -> None:
        try:
            self._hand.open()
        except Exception as error:  # noqa: BLE001  # it is handed to whoever opens the store
            self.opened.set_exception(self._hand.failed(error, None))
            return
        self.opened.set_result(None)
        try:
            while self._waiting or not self._stopped:
                if self._waiting:
                    self._work()
                else:
                    self._news.acquire()
        finally:
            with self.hold:
                self._hand.close()

    def _work(self) -> None:
        """Do jobs that wait, and those that come in meanwhile."""
        with self.hold:
            try:
                self._hand.carry_out(self._take, self._deliver)
            except Exception as error:  # noqa: BLE001  # nobody may be left waiting, whatever went wrong
                self._fail(error)
        self._done += self._taken
        self._taken = []
        if len(self._waiting) < MANY:
            self._deliver()

    def _take(self) -> list[Job]:
        size, room = sum(job.size for job in self._taken), MOST_JOBS - len(self._taken)
        fresh: list[Job] = []
        seen = 0
        with self._lock:
            if len(self._waiting) >= MANY:
                room = min(room, len(self._waiting) if self._done else len(self._waiting) // 2)
            for job in self._waiting if len(self._taken) < MANY else ():
                if size >= MOST_BYTES or len(fresh) >= room:
                    break
                seen += 1
                if job.state == Job.WAITING:  # or it was withdrawn
                    job.state = Job.TAKEN
                    fresh.append(job)
                    size += job.size
            del self._waiting[:seen]
        self._taken += fresh
        return fresh

    def _fail(self, error: Exception) -> None:
        """Let every job fail that waits, or was taken and has come to nothing."""
        with self._lock:
            self._taken += [job for job in self._waiting if job.state == Job.WAITING]
            self._waiting = []
            for job in self._taken:
                job.state = Job.TAKEN
        for job in self._taken:
            job.error = job.error or self._hand.failed(error, job.run_id)
        self._done += self._taken
        self._taken = []

    def _deliver(self) -> None:
        """Wake each event loop once, with all that it waits for."""
        with self._lock:
            jobs, self._done = self._done, []
            self._under_way -= len(jobs)
        for loop in {job.loop for job in jobs}:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_settle, [job for job in jobs if job.loop is loop])


def _settle(jobs: list[Job]) -> None:
    for job in jobs:
        job.state = Job.DONE
        future = job.future
        if future.done():
            continue  # cancelled
        if job.error is None:
            future.set_result(job.result)
        else:
            future.set_exception(job.error)
