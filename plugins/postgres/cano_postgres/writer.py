"""Group commit: whatever is asked for while the server is busy goes into its next transaction together.

There is one connection that writes, and one batch at a time on its way. A batch is one round trip: the server carries
out its statements as one transaction, with one sync to disk. Nothing in it harms the rest: what is refused writes
nothing and says so; and where anything else goes wrong the transaction is undone, and each job is done alone.

A step whose run is the only one at work is sent by its caller at once, which spares a change of tasks there and back.
Whatever does not come of that, the batches do.

When the connection breaks, nobody knows whether the jobs on their way were done. The writer connects anew, makes sure
that the old connection is gone for good, and sends each of them `again`, which means: unless it was done already.
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
"""How much goes into one batch, more or less."""

ATTEMPTS = 10
"""How often a job is done anew because another transaction was in the way."""

ANSWER_WITHIN = 60.0
"""Seconds for which a silent server is waited for, at least."""

_LONGEST_PAUSE = 0.5


class Writer:
    """The connection that writes, and the task that uses it.

    Attributes:
        key: a random number of this writer's, by which its connections and its notifications are known.
    """

    def __init__(self, settings: Settings, closed: Callable[[], StoreUnavailableError]) -> None:
        self._settings = settings
        self._closed = closed
        self._connection: QuickConnection | None = None
        self._turn = asyncio.Lock()  # whose turn it is to use the connection
        self._waiting: list[Job] = []
        self._taken: list[Job] = []
        self._crowded = False  # whether there were several jobs in the last batch
        self._news = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        (self.key,) = struct.unpack("q", urandom(8))
        self._batch = Batch(settings.schema, self.key)

    async def start(self, connection: QuickConnection) -> None:
        """Begin, with a connection that is ready."""
        await be_the_only_one(connection, self.key, again=False)
        await connection.prepare_steps()
        self._connection = connection
        self._task = asyncio.create_task(self._live(), name="cano-postgres writer")

    async def close(self) -> None:
        """Do what was asked for, and disconnect."""
        self._closing = True
        self._news.set()
        if self._task is not None:
            await asyncio.wait((self._task,))
        if self._connection is not None:
            await self._connection.close()

    async def do(self, work: Work) -> Any:
        """The result of `work`, once it is done.

        When this is cancelled, the work is not done, or it is done before the cancellation goes on: never later.
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
        self._waiting.append(job)
        self._news.set()
        try:
            return await job.future
        except asyncio.CancelledError:
            await self._withdraw(job)
            raise

    def _free(self) -> QuickConnection | None:
        """The connection, if nobody needs it now, nor is likely to: what was alone last time is alone again."""
        return None if self._waiting or self._crowded or self._turn.locked() else self._connection

    async def _withdraw(self, job: Job) -> None:
        """Take a job back; where it is on its way, wait until it is done, or until its connection is lost."""
        job.withdrawn = True
        while job.flying:
            job.future = asyncio.get_running_loop().create_future()
            with suppress(asyncio.CancelledError):  # it is being cancelled already
                await asyncio.wait((job.future,))
        job.state = Job.DONE
        if job.future.done() and not job.future.cancelled():
            job.future.exception()  # or asyncio would report that nobody has looked at it

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
                except Exception as error:  # noqa: BLE001  # nobody may be left waiting, whatever went wrong
                    self._fail(self._taken, error)
                self._taken = []

    def _take(self) -> None:
        """Take the jobs that go into one batch: of each run the first one, in the order in which they came."""
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
            except Exception as error:  # noqa: BLE001  # any of them may be to blame
                await self._note_loss(error, jobs)
        for job in jobs:
            if job.state != Job.DONE:
                await self._alone(job)

    async def _alone(self, job: Job) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                await self._send((job,))
            except Exception as error:  # noqa: BLE001  # it is handed to the caller
                lost = await self._note_loss(error, (job,))
                if attempt < ATTEMPTS and (lost or is_worth_another_attempt(error)) and job.state != Job.DONE:
                    continue
                self._fail((job,), error)
            return

    async def _send(self, jobs: Sequence[Job]) -> None:
        """Do the jobs in one transaction, as far as they are not done."""
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
        """Seconds for which a silent server is waited for."""
        return max(self._settings.retry_for, ANSWER_WITHIN)

    async def _note_loss(self, error: Exception, jobs: Sequence[Job]) -> bool:
        """Whether `error` means that the connection is lost; then it is given up, and the jobs are in doubt."""
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
        """A new connection, or None where all jobs that were taken have been given up."""
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
        """Fail the jobs that have waited long enough for a connection, or all of them when the store is closing."""
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
        """What the caller of a job is told: an error of its own, since a traceback is hung on it."""
        if isinstance(error, StoreUnavailableError):
            doubt = "; what was asked for may have been done" if job.again else ""
            return StoreUnavailableError(f"{error}{doubt}", run_id=job.work.run_id)
        if isinstance(error, TimeoutError):
            return StoreUnavailableError(
                f"the store {self._settings.label} did not answer in time; what was asked for may have been done",
                run_id=job.work.run_id,
            )
        return translated(error, self._settings.label, job.work.run_id)
