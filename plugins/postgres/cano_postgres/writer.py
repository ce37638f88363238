"""Group commit: the works that arrive while the server is busy share its next transaction.

One connection writes, and one batch at a time is sent. A batch is one round trip: the server executes its statements as
one transaction with one sync. A refused work writes nothing and disturbs no other; after any other error the
transaction is rolled back, and each job is sent alone.

If only one run is active, its caller sends the step itself, which saves switching tasks. If that fails, a batch does.

If the connection breaks, the server may or may not have executed the sent jobs. The writer reconnects, makes sure that
the old connection has ended, and sends the jobs `again`: that does nothing if a job was done already.
"""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from os import urandom
from time import monotonic
from typing import Any

import psycopg
from cano import StoreUnavailableError

from cano_postgres.batch import Batch
from cano_postgres.connection import be_the_only_one, connect
from cano_postgres.failures import is_lost, is_worth_another_attempt, translated, unreachable
from cano_postgres.job import Job
from cano_postgres.quick import QuickConnection, values_of
from cano_postgres.settings import Settings
from cano_postgres.work import Work

MOST_JOBS = 500
MOST_BYTES = 8 * 1024 * 1024
"""The approximate size of a batch."""

ATTEMPTS = 10
"""The most attempts of a job that fails because of another transaction."""

ANSWER_WITHIN = 60.0
"""The least seconds to wait for the server's answer."""

_LONGEST_PAUSE = 0.5


class Writer:
    """The writing connection, and the task that uses it.

    Attributes:
        key: a random number that identifies this writer's connections and notifications.
    """

    def __init__(self, settings: Settings, closed: Callable[[], StoreUnavailableError]) -> None:
        self._settings = settings
        self._closed = closed
        self._connection: QuickConnection | None = None
        self._turn = asyncio.Lock()  # held by the user of the connection
        self._waiting: list[Job] = []
        self._taken: list[Job] = []
        self._crowded = False  # whether the last batch had several jobs
        self._news = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        (self.key,) = struct.unpack("q", urandom(8))
        self._batch = Batch(settings.schema, self.key)

    async def start(self, connection: QuickConnection) -> None:
        """Start with an open connection."""
        await be_the_only_one(connection, self.key, again=False)
        await connection.prepare_steps()
        self._connection = connection
        self._task = asyncio.create_task(self._live(), name="cano-postgres writer")

    async def close(self) -> None:
        """Finish the jobs, and disconnect."""
        self._closing = True
        self._news.set()
        if self._task is not None:
            await asyncio.wait((self._task,))
        if self._connection is not None:
            await self._connection.close()

    async def do(self, work: Work, *, urgent: bool = False) -> Any:
        """Do `work`, and return its result. With `urgent`, do it before all others that wait.

        Cancellation: the work is withdrawn, or it is completed before the cancellation is raised; never later.
        """
        if self._closing:
            raise self._closed()
        again = False
        if (connection := self._free()) is not None and (values := values_of(work)) is not None:
            async with self._turn:
                try:
                    tail = await connection.step(values, self._patience)
                except (psycopg.Error, TimeoutError) as error:
                    again = await self._note_loss(error, ())
                else:
                    if tail is not None:
                        return tail
        deadline = monotonic() + self._settings.retry_for
        job = Job(work, asyncio.get_running_loop().create_future(), deadline, again=again)
        self._waiting.insert(0 if urgent else len(self._waiting), job)
        self._news.set()
        try:
            return await job.future
        except asyncio.CancelledError:
            await self._withdraw(job)
            raise

    def _free(self) -> QuickConnection | None:
        """Return the connection if no job needs it, and the last batch had a single job."""
        return None if self._waiting or self._crowded or self._turn.locked() else self._connection

    async def _withdraw(self, job: Job) -> None:
        """Withdraw a job. If it was sent, wait until it is done, or its connection is lost."""
        job.withdrawn = True
        while job.flying:
            job.future = asyncio.get_running_loop().create_future()
            with suppress(asyncio.CancelledError):  # the caller is cancelled already
                await asyncio.wait((job.future,))
        job.state = Job.DONE
        if job.future.done() and not job.future.cancelled():
            job.future.exception()  # so that asyncio does not report it as never retrieved

    # the task

    async def _live(self) -> None:
        while True:
            await self._news.wait()
            async with self._turn:
                self._take()
                if not self._taken:
                    if self._closing:
                        return
                    self._news.clear()
                    continue
                self._crowded = len(self._taken) > 1
                try:
                    await self._carry_out(self._taken)
                except Exception as error:  # noqa: BLE001  # every caller must get a result, whatever failed
                    self._fail(self._taken, error)
                self._taken = []

    def _take(self) -> None:
        """Take the jobs of one batch: the first one of each run, in the order of the calls."""
        size, taken, left = 0, self._taken, []
        runs: set[str | None] = set()
        for job in self._waiting:
            if job.state == Job.DONE:  # withdrawn
                continue
            work = job.work
            if len(taken) < MOST_JOBS and size < MOST_BYTES and work.run_id not in runs:
                job.state = Job.TAKEN
                size += work.size
                taken.append(job)
            else:
                left.append(job)
            runs.add(work.run_id)
        self._waiting = left

    async def _carry_out(self, jobs: Sequence[Job]) -> None:
        if len(jobs) > 1:
            try:
                await self._send(jobs)
            except Exception as error:  # noqa: BLE001  # any of them may have caused it
                await self._note_loss(error, jobs)
        for job in jobs:
            if job.state != Job.DONE:
                await self._alone(job)

    async def _alone(self, job: Job) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                await self._send((job,))
            except Exception as error:  # noqa: BLE001  # the caller gets it
                lost = await self._note_loss(error, (job,))
                if attempt < ATTEMPTS and (lost or is_worth_another_attempt(error)) and job.state != Job.DONE:
                    continue
                self._fail((job,), error)
            return

    async def _send(self, jobs: Sequence[Job]) -> None:
        """Do the unfinished jobs in one transaction."""
        connection = self._connection or await self._reconnect()
        if connection is None:
            return
        jobs = [job for job in jobs if job.state == Job.TAKEN]
        works, again = [job.work for job in jobs], any(job.again for job in jobs)
        for job in jobs:
            job.flying = True
        try:
            answers = await self._batch.carry_out(connection, works, again=again, within=self._patience)
        except BaseException:
            for job in jobs:
                job.land()
            raise
        for job, answer in zip(jobs, answers, strict=True):
            job.flying = False
            if isinstance(answer, Exception):
                job.fail(answer)
            else:
                job.succeed(answer)

    @property
    def _patience(self) -> float:
        """Seconds to wait for the server's answer."""
        return max(self._settings.retry_for, ANSWER_WITHIN)

    async def _note_loss(self, error: Exception, jobs: Sequence[Job]) -> bool:
        """Return whether `error` means that the connection is lost. Then close it, and mark the jobs `again`."""
        connection = self._connection
        if connection is None or not is_lost(error, connection):
            return False
        self._connection = None
        with suppress(Exception):
            await connection.close()
        for job in jobs:
            if not job.again:
                job.again = True
                job.deadline = monotonic() + self._settings.retry_for
        return True

    async def _reconnect(self) -> QuickConnection | None:
        """Return a new connection, or None if all taken jobs have failed meanwhile."""
        pause = 0.02
        while True:
            try:
                connection = await connect(self._settings, QuickConnection)
                try:
                    await be_the_only_one(connection, self.key, again=True)
                    await connection.prepare_steps()
                except BaseException:
                    await connection.close()
                    raise
            except (psycopg.Error, OSError, TimeoutError) as error:
                self._give_up(error)
            else:
                self._connection = connection
                return connection
            if all(job.state == Job.DONE for job in self._taken):
                return None
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _give_up(self, error: Exception) -> None:
        """Fail the jobs whose deadline has passed, or all if the store is closing."""
        now, patience = monotonic(), self._settings.retry_for
        unavailable = unreachable(error, self._settings.label, patience)
        late = [job for job in (*self._taken, *self._waiting) if self._closing or job.deadline <= now]
        self._fail(late, unavailable)
        self._waiting = [job for job in self._waiting if job.state != Job.DONE]

    def _fail(self, jobs: Sequence[Job], error: Exception) -> None:
        for job in jobs:
            if job.state != Job.DONE:
                job.fail(self._said(error, job))

    def _said(self, error: Exception, job: Job) -> Exception:
        """Return the error for the caller of a job: a new one, since raising adds a traceback."""
        if isinstance(error, StoreUnavailableError):
            doubt = "; the call may have been done: load shows whether it was" if job.again else ""
            return StoreUnavailableError(f"{error}{doubt}", run_id=job.work.run_id)
        if isinstance(error, TimeoutError):
            return StoreUnavailableError(
                f"the store {self._settings.label} did not answer in time; the call may have been done: load shows "
                "whether it was",
                run_id=job.work.run_id,
            )
        return translated(error, self._settings.label, job.work.run_id)
