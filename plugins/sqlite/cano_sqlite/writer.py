"""Group commit: the jobs that arrive while a transaction is written to disk share the next transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial

from cano import ConflictError, SerializationError

from cano_sqlite.connection import connect_for_writing, patiently, roll_back
from cano_sqlite.failures import is_busy, translated
from cano_sqlite.identity import FileIdentity
from cano_sqlite.job import Job
from cano_sqlite.journal import Append, Made, are_steps, heads_of, remember, step_all
from cano_sqlite.settings import Settings
from cano_sqlite.snapshot import fold
from cano_sqlite.tails import Tails
from cano_sqlite.worker import Desk

CHECKPOINT = 2000
"""Number of pages in the log from which a commit copies them into the file."""

MOST_DUE = 16
"""The most runs that wait for compaction. Compacting them together interrupts the transactions of steps less often.

None waits until its tail is half longer than `snapshot_every`.
"""


class Writer:
    """Does writing jobs, many in one transaction.

    The jobs of a transaction share one sync. None undoes another: a refused job raises ConflictError before it has
    written anything; after any other error the transaction is rolled back, and each job gets one of its own.

    Attributes:
        readers: done when the store's other threads have disconnected.
        cursor: the cursor for the shortcut.
        file: the identity of the file, checked before each transaction.
        checkpoints: whether commits may run a checkpoint, which copies the log into the file.
    """

    writes = True

    def __init__(self, settings: Settings, tails: Tails) -> None:
        self._settings = settings
        self._tails = tails
        self._due: set[str] = set()  # the runs due for compaction
        self._rounds = 0  # number of transactions of steps since the first of them was due
        self._connection: sqlite3.Connection
        self.cursor: sqlite3.Cursor
        self.file: FileIdentity
        self.checkpoints: bool
        self.readers: list[Future[None]] = []

    def open(self) -> None:
        """Connect, and migrate the tables."""
        self._connection = connect_for_writing(self._settings)
        self.file = FileIdentity(self._settings.path)
        self.cursor = self._connection.cursor()
        self.let_commits_checkpoint(True)

    def close(self) -> None:
        """Disconnect after the readers. The last connection removes the log."""
        for ended in self.readers:
            ended.result()
        self.cursor.close()
        self._connection.close()

    def failed(self, error: Exception, run_id: str | None) -> Exception:
        """Return the error that the caller gets."""
        return translated(error, self._settings.path, run_id)

    def carry_out(self, desk: Desk) -> None:
        """Do the waiting jobs with one sync."""
        self.file.check()
        if not self.checkpoints:
            self.let_commits_checkpoint(True)
        if not self._overdue:
            jobs = desk.take()
            if are_steps(jobs) and self._do_steps(jobs, desk):
                return
        desk.put_back()  # while this waits for other processes, a cancelled job can be withdrawn
        self._begin(desk)
        self._do_all(desk)

    def _do_steps(self, steps: Sequence[Append], desk: Desk) -> bool:
        """Apply the steps with one statement, which releases the GIL. Return False if another process is writing."""
        desk.deliver()
        try:
            made = step_all(self._connection, steps)
        except Exception as error:  # noqa: BLE001  # any of them may have caused it
            roll_back(self._connection)
            if is_busy(error):
                return False
            self._do_one_by_one(steps)
        else:
            self._do_one_by_one(self._note(steps, made))
        return True

    def _do_all(self, desk: Desk) -> None:
        """Do jobs of any kind in one transaction, and those that arrive before it is committed."""
        connection = self._connection
        jobs = desk.take()
        due: set[str] = set()
        try:
            fresh: Sequence[Job] = jobs
            while fresh:
                if are_steps(fresh):
                    desk.deliver()
                    fresh = self._note(fresh, step_all(connection, fresh))
                _do(connection, fresh)
                fresh = desk.take()
                jobs += fresh
            due, self._due, self._rounds = self._due, set(), 0
            for run_id in due:
                with suppress(SerializationError):  # it is corrupt, and nothing is written; `load` reports it
                    fold(connection, run_id, self._tails)
            desk.deliver()
            connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001  # any of them may have caused it
            roll_back(connection)
            desk.deliver()
            if len(jobs) == 1 and not due:
                jobs[0].error = self.failed(error, jobs[0].run_id)
            else:
                self._do_one_by_one(jobs)

    def _note(self, steps: Sequence[Append], made: Made) -> Sequence[Append]:
        """Remember the steps that `step_all` has applied, and the runs due for compaction. Return the other steps."""
        rest: list[Append] = []
        lines: Iterable[tuple[Append, int]]
        if made.lines == len(steps):
            lines = zip(steps, range(made.last - made.lines + 1, made.last + 1), strict=True)
        else:
            heads = patiently(self._settings, partial(heads_of, self._connection, made))
            rest = [step for step in steps if step.run_id not in heads]
            lines = [(step, heads[step.run_id]) for step in steps if step.run_id in heads]
        self._due.update(remember(self._connection, self._tails, lines))
        if self._due:
            self._rounds += 1
        return rest

    @property
    def _overdue(self) -> bool:
        return len(self._due) >= MOST_DUE or self._rounds * 4 > self._tails.every

    def let_commits_checkpoint(self, allowed: bool) -> None:
        """Set whether commits may run a checkpoint, which takes long."""
        self._connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT if allowed else 0}")
        self.checkpoints = allowed

    def _begin(self, desk: Desk | None = None) -> None:
        """Begin a transaction. Wait for other writers."""
        tries = 0

        def begin() -> None:
            nonlocal tries
            tries += 1
            if tries == 2 and desk is not None:
                desk.deliver()
            # IMMEDIATE: a transaction that reads first fails at its first write if another one wrote in between
            self._connection.execute("BEGIN IMMEDIATE")

        patiently(self._settings, begin, bool if desk is None else desk.hurried)

    def _do_one_by_one(self, jobs: Sequence[Job]) -> None:
        connection = self._connection
        for number, job in enumerate(jobs):
            job.error = None
            try:
                self._begin()
                _do(connection, [job])
                connection.execute("COMMIT")
            except Exception as error:  # noqa: BLE001  # the caller gets it
                roll_back(connection)
                job.error = self.failed(error, job.run_id)
                if is_busy(error):  # each of the others would wait as long again
                    for other in jobs[number + 1 :]:
                        other.error = self.failed(error, other.run_id)
                    return


def _do(connection: sqlite3.Connection, jobs: Sequence[Job]) -> None:
    for job in jobs:
        try:
            job.result = job.do(connection)
        except ConflictError as error:
            job.error = error
