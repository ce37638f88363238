"""A thread that owns a connection, does jobs with it, and hands the results back to the event loops that asked."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from concurrent.futures import Future
from contextlib import suppress
from operator import attrgetter
from typing import Any, Protocol

from cano import StoreUnavailableError

from cano_sqlite.job import Job

MOST_JOBS = 100
MOST_BYTES = 8 * 1024 * 1024
"""How much is taken into one transaction, more or less."""

MANY = 16
"""Of so many jobs that wait, half go first: later the event loop works for them while the others are done.

So many are also enough for one transaction that has begun, and a reason to let those that are done wait until it has.
"""

_loop_of = attrgetter("loop")


class Desk(Protocol):
    """Where jobs come in, and the results go out."""

    def take(self) -> list[Job]:
        """Jobs that have come in since this was called last; none where there are none, or enough for once."""
        ...

    def put_back(self) -> None:
        """Let all that were taken be taken again. Only those that nobody has taken can be withdrawn."""
        ...

    def deliver(self) -> None:
        """To be called before something is waited for: those whose jobs were done before go on meanwhile."""
        ...


class Hand(Protocol):
    """Does the jobs. `open`, `carry_out` and `close` are called in the worker's thread.

    Attributes:
        writes: whether its jobs change something.
    """

    writes: bool

    def open(self) -> None:
        """Connect."""
        ...

    def carry_out(self, desk: Desk) -> None:
        """Do jobs, setting the result or error of each."""
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
        under_way: how many jobs there are, until their event loops have been called.
    """

    def __init__(self, name: str, hand: Hand, closed: str) -> None:
        self._hand = hand
        self._closed = closed
        self._lock = threading.Lock()  # whoever changes what is known of jobs has it
        self._news = threading.Lock()  # the thread waits for it when there is nothing to do
        self._news.acquire()
        self.hold = threading.Lock()
        self._stopped = False
        self._waiting: list[Job] = []
        self._taken: list[Job] = []
        self._done: list[Job] = []
        self.under_way = 0
        self.opened: Future[None] = Future()
        self.ended: Future[None] = Future()
        for future in (self.opened, self.ended):
            future.set_running_or_notify_cancel()  # so that whoever waits for it cannot cancel it
        self._thread = threading.Thread(target=self._live, name=name, daemon=True)
        _workers.add(self)
        self._thread.start()

    async def do(self, job: Job) -> Any:
        """The result of a job, once it is done.

        When this is cancelled, it is not done, or it is done before the cancellation goes on: never later.
        """
        job.loop = loop = asyncio.get_running_loop()
        job.future = loop.create_future()
        with self._lock:
            if self._stopped:
                raise StoreUnavailableError(self._closed)
            self._waiting.append(job)
            self.under_way += 1
            if self.under_way <= 1:  # less where a signal has raised before it was counted
                self._wake()
        try:
            return await job.future
        except asyncio.CancelledError:
            await self._withdraw(job)
            raise

    async def _withdraw(self, job: Job) -> None:
        """Take a job back; where it is too late for that, and it changes something, wait until it is done."""
        with self._lock:
            job.unwanted = job.taken
            if not job.taken:  # it stays where it is: to look for it among many takes long
                job.done = True
                self.under_way -= 1
        while not job.done and self._hand.writes:
            job.future = job.loop.create_future()
            with suppress(asyncio.CancelledError):  # it is being cancelled already
                await asyncio.wait((job.future,))
        if job.future.done() and not job.future.cancelled():
            job.future.exception()  # or asyncio would report that nobody has looked at it

    def orphan(self) -> None:
        """Take no more jobs: the process was forked, and the thread is not in this one."""
        self._stopped = True
        self._closed = "the store was opened by the process that this one was forked from; open another"
        self._lock = threading.Lock()  # the thread may have had it
        self.ended = Future()
        self.ended.set_result(None)

    @property
    def idle(self) -> bool:
        """Whether the thread is this process's, has nothing to do, and will do nothing while its `hold` is held."""
        return not self.under_way and not self._stopped

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
            # what came in while the hand could not be opened
            self._fail(StoreUnavailableError(self._closed), len(self._waiting))
            self.deliver()
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
        count = len(self._waiting)
        with self.hold:
            try:
                self._hand.carry_out(self)
            except Exception as error:  # noqa: BLE001  # nobody may be left waiting, whatever went wrong
                self._fail(error, count)
        self._done += self._taken
        self._taken = []
        if len(self._waiting) < MANY:
            self.deliver()

    def take(self) -> list[Job]:
        """See `Desk`."""
        taken = self._taken
        size, room = sum([job.size for job in taken]) if taken else 0, MOST_JOBS - len(taken)
        if len(taken) >= MANY or size >= MOST_BYTES:
            return []
        with self._lock:
            waiting = self._waiting
            if len(waiting) >= MANY and not self._done:
                room = min(room, len(waiting) // 2)
            fresh = waiting[:room]
            if size + sum([job.size for job in fresh]) > MOST_BYTES:
                fresh = _as_many(fresh, MOST_BYTES - size)
            del waiting[: len(fresh)]
            fresh = [job for job in fresh if not job.done]  # or it was withdrawn
            for job in fresh:
                job.taken = True
        taken += fresh
        return fresh

    def put_back(self) -> None:
        """See `Desk`."""
        with self._lock:
            self._done += [job for job in self._taken if job.unwanted]
            self._waiting[:0] = back = [job for job in self._taken if not job.unwanted]
            for job in back:
                job.taken = False
            self._taken = []

    def _fail(self, error: Exception, count: int) -> None:
        """Let the first `count` jobs fail: those that were taken and have come to nothing, and of those that wait."""
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
        """See `Desk`. Wakes each event loop once, with all that it waits for."""
        with self._lock:
            jobs, self._done = self._done, []
            self.under_way -= len(jobs)
        loops = set(map(_loop_of, jobs))
        for loop in loops:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                mine = jobs if len(loops) == 1 else [job for job in jobs if job.loop is loop]
                loop.call_soon_threadsafe(_settle, mine)


def _as_many(jobs: list[Job], room: int) -> list[Job]:
    """The first of these, until they write so many bytes."""
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
"""All of this process: a fork is to be told to them, since asking whether there was one takes a call to the system."""


def _forked() -> None:
    for worker in _workers:
        worker.orphan()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
