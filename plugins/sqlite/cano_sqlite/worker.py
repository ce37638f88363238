"""A thread that owns a connection, does jobs with it, and returns the results to the event loops of the callers."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from operator import attrgetter
from typing import Any, Protocol

from cano import StoreUnavailableError

from cano_sqlite.job import Job

MOST_JOBS = 100
MOST_BYTES = 8 * 1024 * 1024
"""The approximate size of one transaction."""

MANY = 16
"""If this many jobs wait, half are done first, so that the event loop handles their results while the rest is done.

It is also enough for one transaction, and a reason to deliver finished jobs only after the next one has begun.
"""

_loop_of = attrgetter("loop")


class Desk(Protocol):
    """The place where a thread takes jobs and delivers results."""

    def hurried(self) -> bool:
        """Return whether an urgent job waits."""
        ...

    def take(self) -> list[Job]:
        """Return the jobs that arrived since the last call; if the transaction has enough, only an urgent one."""
        ...

    def put_back(self) -> None:
        """Return all taken jobs to the queue, where their callers can withdraw them."""
        ...

    def deliver(self) -> None:
        """Wake the callers of finished jobs. Call it before a wait, so that they run meanwhile."""
        ...


class Hand(Protocol):
    """Does the jobs of a worker. `open`, `carry_out` and `close` are called in the thread.

    Attributes:
        writes: whether its jobs write.
    """

    writes: bool

    def open(self) -> None:
        """Connect."""
        ...

    def carry_out(self, desk: Desk) -> None:
        """Do jobs, and set the result or error of each."""
        ...

    def failed(self, error: Exception, run_id: str | None) -> Exception:
        """Return the error that the caller of a failed job gets."""
        ...

    def close(self) -> None:
        """Disconnect."""
        ...


class Worker:
    """The thread.

    Attributes:
        opened: done when the hand is open, or has failed to open.
        ended: done when all jobs are done and the hand is closed.
        hold: the lock of the hand; its user holds it.
        under_way: number of jobs whose results have not been delivered.
        guard: called before each job, to refuse it by an error; or None.
    """

    def __init__(self, name: str, hand: Hand, closed: str) -> None:
        self._hand = hand
        self._closed = closed
        self._lock = threading.Lock()  # guards the lists of jobs
        self._news = threading.Lock()  # an idle thread waits for it; releasing it wakes the thread
        self._news.acquire()
        self.hold = threading.Lock()
        self._stopped = False
        self._waiting: list[Job] = []
        self._taken: list[Job] = []
        self._done: list[Job] = []
        self.under_way = 0
        self.guard: Callable[[], None] | None = None
        self.opened: Future[None] = Future()
        self.ended: Future[None] = Future()
        for future in (self.opened, self.ended):
            future.set_running_or_notify_cancel()  # a cancelled waiter must not cancel the future
        self._thread = threading.Thread(target=self._live, name=name, daemon=True)
        _workers.add(self)
        self._thread.start()

    async def do(self, job: Job) -> Any:
        """Let the thread do a job, and return its result.

        Cancellation: the job is withdrawn, or it is completed before the cancellation is raised; never later.
        """
        if self.guard is not None:
            self.guard()
        job.loop = loop = asyncio.get_running_loop()
        job.future = loop.create_future()
        with self._lock:
            if self._stopped:
                raise StoreUnavailableError(self._closed)
            self._waiting.insert(0 if job.urgent else len(self._waiting), job)
            self.under_way += 1
            if self.under_way <= 1:  # less than 1 if a signal handler has raised before the count
                self._wake()
        try:
            return await job.future
        except asyncio.CancelledError:
            await self._withdraw(job)
            raise

    async def _withdraw(self, job: Job) -> None:
        """Withdraw a job. If the thread has taken it and it writes, wait until it is done."""
        with self._lock:
            job.unwanted = job.taken
            if not job.taken:  # it stays in the list, since finding it there would take long
                job.done = True
                self.under_way -= 1
        while not job.done and self._hand.writes:
            job.future = job.loop.create_future()
            with suppress(asyncio.CancelledError):  # the caller is cancelled already
                await asyncio.wait((job.future,))
        if job.future.done() and not job.future.cancelled():
            job.future.exception()  # so that asyncio does not report it as never retrieved

    def orphan(self) -> None:
        """Refuse jobs from now on: after a fork, this process has no such thread."""
        self._stopped = True
        self._closed = "the store was opened before this process was forked; open another one in each process"
        self._lock = threading.Lock()  # the thread may have held it
        self.ended = Future()
        self.ended.set_result(None)

    @property
    def idle(self) -> bool:
        """Whether the thread is in this process, has no job, and will do none while `hold` is held."""
        return not self.under_way and not self._stopped

    def stop(self) -> None:
        """Let the thread end after the jobs that it has."""
        with self._lock:
            if not self._stopped:
                self._stopped = True
                self._wake()

    def _wake(self) -> None:
        if self._news.locked():
            self._news.release()

    def join(self) -> None:
        """Wait for the thread itself, which ends right after `ended` is done."""
        self._thread.join()

    # in the thread

    def _live(self) -> None:
        try:
            self._serve()
        finally:
            self.stop()
            # jobs that arrived while the hand failed to open
            self._fail(StoreUnavailableError(self._closed), len(self._waiting))
            self.deliver()
            self.ended.set_result(None)

    def _serve(self) -> None:
        try:
            self._hand.open()
        except Exception as error:  # noqa: BLE001  # `open` of the store raises it
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
        """Do the waiting jobs, and those that arrive meanwhile."""
        count = len(self._waiting)
        with self.hold:
            try:
                self._hand.carry_out(self)
            except Exception as error:  # noqa: BLE001  # every caller must get a result, whatever failed
                self._fail(error, count)
        self._done += self._taken
        self._taken = []
        if len(self._waiting) < MANY:
            self.deliver()

    def hurried(self) -> bool:
        """See `Desk`."""
        first = self._waiting[:1]
        return bool(first) and first[0].urgent

    def take(self) -> list[Job]:
        """See `Desk`."""
        taken = self._taken
        size, room = sum([job.size for job in taken]) if taken else 0, MOST_JOBS - len(taken)
        with self._lock:
            waiting = self._waiting
            if len(taken) >= MANY or size >= MOST_BYTES:
                room = int(self.hurried())
            elif len(waiting) >= MANY and not self._done:
                room = min(room, len(waiting) // 2)
            fresh = waiting[:room]
            if size + sum([job.size for job in fresh]) > MOST_BYTES:
                fresh = _as_many(fresh, MOST_BYTES - size)
            del waiting[: len(fresh)]
            fresh = [job for job in fresh if not job.done]  # done: withdrawn
            for job in fresh:
                job.taken = True
        taken += fresh
        return fresh

    def put_back(self) -> None:
        """See `Desk`."""
        with self._lock:
            self._done += [job for job in self._taken if job.unwanted]
            back = [job for job in self._taken if not job.unwanted]
            first = int(self.hurried())  # an urgent job that has arrived meanwhile
            self._waiting[first:first] = back
            for job in back:
                job.taken = False
            self._taken = []

    def _fail(self, error: Exception, count: int) -> None:
        """Fail `count` jobs: the taken ones without result, then the first waiting ones."""
        with self._lock:
            rest = max(count - len(self._taken), 0)
            for job in self._waiting[:rest]:
                if not job.done:
                    job.taken = True
                    self._taken.append(job)
            del self._waiting[:rest]
        for job in self._taken:
            job.error = job.error or self._hand.failed(error, job.run_id)
        self._done += self._taken
        self._taken = []

    def deliver(self) -> None:
        """See `Desk`. Each event loop is woken once, for all of its jobs."""
        with self._lock:
            jobs, self._done = self._done, []
            self.under_way -= len(jobs)
        loops = set(map(_loop_of, jobs))
        for loop in loops:
            with suppress(RuntimeError):  # the loop is closed, so no caller waits
                mine = jobs if len(loops) == 1 else [job for job in jobs if job.loop is loop]
                loop.call_soon_threadsafe(_settle, mine)


def _as_many(jobs: list[Job], room: int) -> list[Job]:
    """Return the first jobs, up to `room` bytes."""
    for count, job in enumerate(jobs, 1):
        room -= job.size
        if room <= 0:
            return jobs[:count]
    return jobs


def _settle(jobs: list[Job]) -> None:
    for job in jobs:
        job.done = True
        future = job.future
        if future.done():
            continue  # cancelled
        if job.error is None:
            future.set_result(job.result)
        else:
            future.set_exception(job.error)


_workers: weakref.WeakSet[Worker] = weakref.WeakSet()
"""The workers of this process. A fork calls `orphan` of each, since asking for the process id takes a system call."""


def _forked() -> None:
    for worker in _workers:
        worker.orphan()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
