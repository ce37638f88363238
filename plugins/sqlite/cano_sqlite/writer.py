"""Group commit: whatever came in while the last transaction was written to disk goes into the next one together."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from cano import ConflictError

from cano_sqlite.connection import connect_for_writing, patiently, roll_back
from cano_sqlite.failures import is_busy, translated
from cano_sqlite.journal import Append, are_steps, lines_of, step_all
from cano_sqlite.settings import Settings
from cano_sqlite.snapshot import fold
from cano_sqlite.tails import Tails
from cano_sqlite.worker import Job

CHECKPOINT = 2000
"""Pages of the log from which a commit brings them into the file itself."""

MOST_DUE = 16
"""How many runs may wait for a fold, which only a transaction can do that does more than steps, and takes longer."""


class Writer:
    """The hand that writes. A job's work is a function of the connection, called inside a transaction.

    One sync to disk serves all jobs of a transaction. None of them can undo another: work that is refused raises
    ConflictError before it has written anything, and where anything else goes wrong the whole transaction is undone,
    and each job is done again in one of its own.

    Attributes:
        readers: done when the store's other threads have disconnected.
        cursor: for whoever borrows the hand.
        checkpoints: whether commits tidy up the log.
    """

    writes = True

    def __init__(self, settings: Settings, tails: Tails) -> None:
        self._settings = settings
        self._tails = tails
        self._due: set[str] = set()  # the runs that are to be folded, soon
        self._overdue = False
        self._connection: sqlite3.Connection
        self.cursor: sqlite3.Cursor
        self.checkpoints: bool
        self.readers: list[Future[None]] = []

    def open(self) -> None:
        """Connect, and bring the schema up to date."""
        self._connection = connect_for_writing(self._settings)
        self.cursor = self._connection.cursor()
        self.let_commits_checkpoint(True)

    def close(self) -> None:
        """Disconnect, as the last one: then SQLite tidies up its log."""
        for ended in self.readers:
            ended.result()
        self.cursor.close()
        self._connection.close()

    def failed(self, error: Exception, run_id: str | None) -> Exception:
        """What the caller is told."""
        return translated(error, self._settings.path, run_id)

    def carry_out(self, take: Callable[[], list[Job]], pause: Callable[[], None]) -> None:
        """Do what there is with one sync to disk."""
        if not self.checkpoints:
            self.let_commits_checkpoint(True)
        begun_at_once = self._begin(pause)  # before any is taken: whoever waits for others may be cancelled
        jobs = take()
        if begun_at_once and not self._overdue and are_steps([job.work for job in jobs]):
            roll_back(self._connection)  # nobody else writes: the statement is its own transaction
            pause()
            self._do_steps(jobs)
        else:
            self._do_all(jobs, take, pause)

    def _do_steps(self, jobs: list[Job]) -> None:
        """Let many runs go a step. SQLite is busy with them while Python works for other runs."""
        appends: list[Append] = [job.work for job in jobs]
        try:
            made = patiently(self._settings, partial(step_all, self._connection, appends))
        except Exception as error:
            roll_back(self._connection)
            if is_busy(error):
                raise  # to wait as long again for each would take for ever
            self._do_one_by_one(jobs)  # any of them may be to blame
            return
        rest: list[Job] = []
        for job, append, head in zip(jobs, appends, lines_of(self._connection, appends, made), strict=True):
            if head is None:
                rest.append(job)
            elif self._is_due(append, head):
                run_id = append.line[5]
                self._overdue = self._overdue or run_id in self._due or len(self._due) >= MOST_DUE
                self._due.add(run_id)
        self._do_one_by_one(rest)

    def _is_due(self, append: Append, head: int) -> bool:
        try:
            return append.note(self._connection, head)
        except sqlite3.Error:  # it is on disk: that less is remembered of it is no reason to say that it is not
            self._tails.take(append.line[5])
            return False

    def _do_all(self, jobs: list[Job], take: Callable[[], list[Job]], pause: Callable[[], None]) -> None:
        """Do jobs of any kind in one transaction, with what comes in before it is committed."""
        connection = self._connection
        due, self._due, self._overdue = self._due, set(), False
        try:
            fresh = jobs
            while fresh:
                _do(connection, fresh)
                fresh = take()
                jobs += fresh
            for run_id in due:
                fold(connection, run_id, self._tails)
            pause()
            connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001  # any of them may be to blame
            roll_back(connection)
            pause()
            if len(jobs) == 1:
                jobs[0].error = self.failed(error, jobs[0].run_id)
            else:
                self._do_one_by_one(jobs)

    def let_commits_checkpoint(self, allowed: bool) -> None:
        """Let commits tidy up the log now and then, which takes long, or leave that to later ones."""
        self._connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT if allowed else 0}")
        self.checkpoints = allowed

    def _begin(self, pause: Callable[[], None] = lambda: None) -> bool:
        """Begin a transaction; whether that could be done without waiting for others."""
        tries = 0

        def begin() -> None:
            nonlocal tries
            tries += 1
            if tries == 2:
                pause()
            # IMMEDIATE: one that reads first and writes later fails at once where another one wrote between
            self._connection.execute("BEGIN IMMEDIATE")

        patiently(self._settings, begin)
        return tries == 1

    def _do_one_by_one(self, jobs: list[Job]) -> None:
        connection = self._connection
        for job in jobs:
            job.error = None
            try:
                self._begin()
                _do(connection, [job])
                connection.execute("COMMIT")
            except Exception as error:  # noqa: BLE001  # it is handed to the caller
                roll_back(connection)
                job.error = self.failed(error, job.run_id)


def _do(connection: sqlite3.Connection, jobs: list[Job]) -> None:
    for job in jobs:
        try:
            job.result = job.work(connection)
        except ConflictError as error:
            job.error = error
