"""Group commit: whatever came in while the last transaction was written to disk goes into the next one together."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from concurrent.futures import Future

from cano import ConflictError

from cano_sqlite.connection import CHECKPOINT, connect_for_writing, patiently, roll_back
from cano_sqlite.failures import translated
from cano_sqlite.journal import Append, append_all
from cano_sqlite.settings import Settings
from cano_sqlite.worker import Job


class Writer:
    """The hand that writes. A job's work is a function of the connection, called inside a transaction.

    One sync to disk serves all jobs of a transaction. None of them can undo another: work that is refused raises
    ConflictError before it has written anything, and where anything else goes wrong the whole transaction is undone,
    and each job is done again in one of its own.

    Attributes:
        readers: done when the store's other threads have disconnected.
        cursor: for whoever borrows the hand.
    """

    writes = True

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection: sqlite3.Connection
        self.cursor: sqlite3.Cursor
        self._checkpoints = True
        self.readers: list[Future[None]] = []

    def open(self) -> None:
        """Connect, and bring the schema up to date."""
        self._connection = connect_for_writing(self._settings)
        self.cursor = self._connection.cursor()

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
        """Do what there is in one transaction, with what comes in before it is committed."""
        connection = self._connection
        jobs: list[Job] = []
        try:
            self.let_commits_checkpoint(True)
            patiently(self._settings, self._begin)
            while fresh := take():
                jobs += fresh
                _do(connection, fresh)
            pause()
            connection.execute("COMMIT")
        except Exception as error:  # any of them may be to blame
            roll_back(connection)
            if not jobs:
                raise
            if len(jobs) > 1:
                self._do_one_by_one(jobs)
            else:
                jobs[0].error = self.failed(error, jobs[0].run_id)

    def let_commits_checkpoint(self, allowed: bool) -> None:
        """Let commits tidy up the log now and then, which takes long, or leave that to later ones."""
        if allowed is not self._checkpoints:
            self._connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT if allowed else 0}")
            self._checkpoints = allowed

    def _begin(self) -> None:
        # IMMEDIATE: a transaction that reads first and writes later fails at once where another one wrote between
        self._connection.execute("BEGIN IMMEDIATE")

    def _do_one_by_one(self, jobs: list[Job]) -> None:
        connection = self._connection
        for job in jobs:
            job.error = None
            try:
                patiently(self._settings, self._begin)
                _do(connection, [job])
                connection.execute("COMMIT")
            except Exception as error:  # noqa: BLE001  # it is handed to the caller
                roll_back(connection)
                job.error = self.failed(error, job.run_id)


def _do(connection: sqlite3.Connection, jobs: list[Job]) -> None:
    """Do the jobs in their order; neighbouring steps of runs that just go on, all at once."""
    steps: list[Job] = []
    for job in jobs:
        if job.work.__class__ is Append and job.work.plain:
            steps.append(job)
            continue
        if steps:
            append_all(connection, steps)
            steps = []
        try:
            job.result = job.work(connection)
        except ConflictError as error:
            job.error = error
    if steps:
        append_all(connection, steps)
