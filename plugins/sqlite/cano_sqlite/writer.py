"""Group commit: whatever came in while the last transaction was written to disk goes into the next one together."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial

from cano import ConflictError, SerializationError

from cano_sqlite.connection import connect_for_writing, patiently, roll_back
from cano_sqlite.failures import is_busy, translated
from cano_sqlite.job import Job
from cano_sqlite.journal import Append, Made, are_steps, heads_of, remember, step_all
from cano_sqlite.settings import Settings
from cano_sqlite.snapshot import fold
from cano_sqlite.tails import Tails
from cano_sqlite.worker import Desk

CHECKPOINT = 2000
"""Pages of the log from which a commit brings them into the file itself."""

MOST_DUE = 16
"""How many runs may wait for a fold, since one by one each would make a transaction of steps longer.

None waits for long: not until its tail is longer by half than it should be.
"""


class Writer:
    """The hand that writes: does jobs inside a transaction.

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
        self._rounds = 0  # how many times runs have gone a step since there was one
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

    def carry_out(self, desk: Desk) -> None:
        """Do what there is with one sync to disk."""
        if not self.checkpoints:
            self.let_commits_checkpoint(True)
        if not self._overdue:
            jobs = desk.take()
            if are_steps(jobs) and self._do_steps(jobs, desk):
                return
        desk.put_back()  # whoever waits for other processes may be cancelled
        self._begin(desk)
        self._do_all(desk)

    def _do_steps(self, steps: Sequence[Append], desk: Desk) -> bool:
        """Let many runs go a step with one statement, while Python works for other runs; not if others write."""
        desk.deliver()
        try:
            made = step_all(self._connection, steps)
        except Exception as error:  # noqa: BLE001  # any of them may be to blame
            roll_back(self._connection)
            if is_busy(error):
                return False
            self._do_one_by_one(steps)
        else:
            self._do_one_by_one(self._note(steps, made))
        return True

    def _do_all(self, desk: Desk) -> None:
        """Do jobs of any kind in one transaction, with what comes in before it is committed."""
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
                with suppress(SerializationError):  # it is damaged, which whoever loads it is told; nothing is written
                    fold(connection, run_id, self._tails)
            desk.deliver()
            connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001  # any of them may be to blame
            roll_back(connection)
            desk.deliver()
            if len(jobs) == 1 and not due:
                jobs[0].error = self.failed(error, jobs[0].run_id)
            else:
                self._do_one_by_one(jobs)

    def _note(self, steps: Sequence[Append], made: Made) -> Sequence[Append]:
        """Remember those that `step_all` has done, and which runs are to be folded; the others."""
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
        """Let commits tidy up the log now and then, which takes long, or leave that to later ones."""
        self._connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT if allowed else 0}")
        self.checkpoints = allowed

    def _begin(self, desk: Desk | None = None) -> None:
        """Begin a transaction, as soon as nobody else writes."""
        tries = 0

        def begin() -> None:
            nonlocal tries
            tries += 1
            if tries == 2 and desk is not None:
                desk.deliver()
            # IMMEDIATE: one that reads first and writes later fails at once where another one wrote between
            self._connection.execute("BEGIN IMMEDIATE")

        patiently(self._settings, begin)

    def _do_one_by_one(self, jobs: Sequence[Job]) -> None:
        connection = self._connection
        for number, job in enumerate(jobs):
            job.error = None
            try:
                self._begin()
                _do(connection, [job])
                connection.execute("COMMIT")
            except Exception as error:  # noqa: BLE001  # it is handed to the caller
                roll_back(connection)
                job.error = self.failed(error, job.run_id)
                if is_busy(error):  # to wait as long again for each would take for ever
                    for other in jobs[number + 1 :]:
                        other.error = self.failed(error, other.run_id)
                    return


def _do(connection: sqlite3.Connection, jobs: Sequence[Job]) -> None:
    for job in jobs:
        try:
            job.result = job.do(connection)
        except ConflictError as error:
            job.error = error
