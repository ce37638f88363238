"""Transactions in which a task writes to the store's file, too. They have a connection and a thread of their own."""

from __future__ import annotations

import asyncio
import sqlite3
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from typing import Any

from cano import Commit, ConfigurationError, RunStatus, Signal, StoreError, StoreUnavailableError
from cano_msgspec.packing import stale

from cano_sqlite import signals
from cano_sqlite.connection import connect_for_writing, patiently, roll_back
from cano_sqlite.failures import translated
from cano_sqlite.identity import FileIdentity
from cano_sqlite.job import Call
from cano_sqlite.journal import Append
from cano_sqlite.news import News
from cano_sqlite.settings import Settings
from cano_sqlite.tails import Tails
from cano_sqlite.worker import Desk, Worker

_inside: ContextVar[Transaction | None] = ContextVar("cano_sqlite_transaction", default=None)


class Transactions:
    """The transactions of one open store, one at a time. The thread is started with the first one.

    While one is open, the writing thread waits as it does for another process.

    Attributes:
        worker, hand: the thread and its jobs, as soon as there was a transaction.
        is_closed: whether the store was closed, so that none begins.
    """

    def __init__(self, settings: Settings, closed: str, news: News) -> None:
        self._settings = settings
        self._closed = closed
        self._news = news
        self._turn = asyncio.Lock()
        self.worker: Worker | None = None
        self.hand: Hand | None = None
        self.is_closed = False

    async def begin(self, run_id: str, token: int, seq: int, timeout: float) -> Transaction:
        """See `TransactionalStore.begin`."""
        await self._turn.acquire()
        try:
            if self.is_closed:
                raise StoreUnavailableError(self._closed)
            if self.worker is None:
                self.hand = Hand(self._settings)
                self.worker = Worker("cano-sqlite transactions", self.hand, self._closed)
                weakref.finalize(self, self.worker.stop).atexit = False  # if the store is never closed
            await asyncio.wrap_future(self.worker.opened)
            assert self.hand is not None
            opened = Transaction(self, self.worker, self.hand, run_id, timeout)
        except BaseException:
            self._turn.release()
            raise
        await opened.begin(token, seq)
        _inside.set(opened)
        return opened

    def refuse_inside(self, connection: sqlite3.Connection | None = None) -> None:
        """Raise ConfigurationError if the caller's task has an open transaction, which the writer would wait for.

        Args:
            connection: the connection that would write, if it is not the writer's. That of the transaction can.
        """
        opened = _inside.get()
        own = opened is not None and connection is opened.connection
        if opened is not None and opened.is_open and opened.owner is self and not own:
            raise ConfigurationError(
                f"inside the transaction of run {opened.run_id}, nothing else can be written to the store "
                f"{self._settings.path}: it would wait for the transaction; write it before, or in the next step",
                run_id=opened.run_id,
            )

    def ended(self) -> None:
        """Let the next transaction begin."""
        self._turn.release()

    def failed(self, error: Exception, run_id: str) -> Exception:
        """Return the error that the caller gets."""
        return translated(error, self._settings.path, run_id)

    def change(self, commit: Commit) -> Any:
        """See `News.change`."""
        return self._news.change(commit.run_id, commit.seq, commit.status)

    def tails(self) -> Tails:
        """Return what a commit remembers, which is nothing: the writer remembers it."""
        return Tails(self._settings.snapshot_every)


class Transaction:
    """An open transaction. See `StoreTransaction` for the methods.

    Attributes:
        owner: the transactions of its store.
        run_id: the run whose step it belongs to.
        connection: the connection. SQLite refuses statements that would end the transaction.
        is_open: whether it has not ended.
    """

    def __init__(self, owner: Transactions, worker: Worker, hand: Hand, run_id: str, timeout: float) -> None:
        self.owner = owner
        self.run_id = run_id
        self.connection = hand.connection
        self.is_open = True
        self._worker = worker
        self._hand = hand
        self._timeout = timeout
        self._ended = "it has ended"
        self._loop = asyncio.get_running_loop()
        self._until = self._loop.time() + timeout
        self._timer = self._loop.call_later(timeout, self._expire)
        self._rolling: asyncio.Task[None] | None = None

    async def begin(self, token: int, seq: int) -> None:
        await self._or_rollback(partial(self._hand.begin, run_id=self.run_id, token=token, seq=seq))
        self.connection = self._hand.connection

    async def execute(
        self, statement: str, parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> Sequence[tuple[Any, ...]]:
        self._check()
        work = partial(_rows, statement=statement, parameters=parameters)
        rows: Sequence[tuple[Any, ...]] = await self._worker.do(Call(work))
        return rows

    async def put_signal(self, run_id: str, signal: Signal) -> None:
        self._check()
        await self._worker.do(Call(partial(_put, run_id=run_id, signal=signal)))

    async def commit(self, commit: Commit) -> None:
        self._check()
        append = Append(commit, self.owner.tails())
        self._timer.cancel()
        made = self._or_rollback(partial(self._hand.commit, append=append))
        if commit.status is RunStatus.RUNNING:
            await made
        else:
            with self.owner.change(commit):
                await made
        self._end()

    async def rollback(self) -> None:
        if self._rolling is None:
            if not self.is_open:
                return
            self._timer.cancel()
            self._rolling = self._loop.create_task(self._roll_back(), name="cano-sqlite rollback")
        cancelled: asyncio.CancelledError | None = None
        while not self._rolling.done():
            try:
                await asyncio.wait({self._rolling})
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled

    async def _or_rollback(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """Do `work` in the thread. If it fails, or the caller is cancelled, the transaction ends without effect."""
        try:
            await self._worker.do(Call(work, self.run_id))
        except BaseException as error:
            with suppress(asyncio.CancelledError):
                await self.rollback()
            if isinstance(error, sqlite3.Error):
                raise self.owner.failed(error, self.run_id) from error
            raise

    async def _roll_back(self) -> None:
        try:
            await self._worker.do(Call(self._hand.roll_back))
        finally:
            self._end()

    def _end(self) -> None:
        if self.is_open:
            self.is_open = False
            self._timer.cancel()
            self.owner.ended()

    def _expire(self) -> None:
        """Roll it back, since others wait for it, and the leases of this process are not renewed meanwhile."""
        self._ended = "it was rolled back, since it took longer than half of what was left of the lease, "
        self._ended += f"{self._timeout:.3g} s; do what takes long before it"
        self._rolling = self._loop.create_task(self._roll_back(), name="cano-sqlite rollback")

    def _check(self) -> None:
        if self.is_open and self._rolling is None and self._loop.time() > self._until:
            self._timer.cancel()  # the event loop was blocked
            self._expire()
        if not self.is_open or self._rolling is not None:
            raise self._over()

    def _over(self) -> StoreError:
        return StoreError(f"the transaction of run {self.run_id} cannot be used: {self._ended}", run_id=self.run_id)


class Hand:
    """Does the jobs of the thread: see `cano_sqlite.worker.Hand`.

    Attributes:
        connection: the connection.
    """

    writes = True

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.connection: sqlite3.Connection
        self._file: FileIdentity

    def open(self) -> None:
        """Connect."""
        self.connection = connect_for_writing(self._settings)
        self._file = FileIdentity(self._settings.path)

    def close(self) -> None:
        """Disconnect."""
        self.connection.close()

    def failed(self, error: Exception, run_id: str | None) -> Exception:
        """Return the error that the caller gets."""
        return translated(error, self._settings.path, run_id)

    def carry_out(self, desk: Desk) -> None:
        """Do the waiting jobs, each by itself. The error of a task's statement is SQLite's own."""
        for job in desk.take():
            try:
                job.result = job.do(self.connection)
            except Exception as error:  # noqa: BLE001  # the caller gets it
                job.error = error

    def begin(self, connection: sqlite3.Connection, run_id: str, token: int, seq: int) -> None:
        """Begin a transaction, after other writers. Raise ConflictError if the run is not as the caller knows it."""
        self._file.check()
        if not _is_open(connection):
            self.connection = connection = connect_for_writing(self._settings)
        _forbid_ends(connection, False)
        patiently(self._settings, partial(connection.execute, "BEGIN IMMEDIATE"))
        found = connection.execute("SELECT seq, token FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        if found != (seq, token):
            raise stale(run_id, seq, token, found)
        _forbid_ends(connection, True)

    def commit(self, connection: sqlite3.Connection, append: Append) -> None:
        """Apply a commit, and commit the transaction."""
        if not _is_open(connection):
            raise StoreError(
                f"the transaction of run {append.run_id} was rolled back, since its task has closed the connection",
                run_id=append.run_id,
            )
        _forbid_ends(connection, False)
        if not connection.in_transaction:
            raise StoreError(
                f"the transaction of run {append.run_id} was rolled back by SQLite after an error in it",
                run_id=append.run_id,
            )
        append.do(connection)
        connection.execute("COMMIT")

    def roll_back(self, connection: sqlite3.Connection) -> None:
        """Roll the transaction back."""
        if _is_open(connection):
            _forbid_ends(connection, False)
            roll_back(connection)


def _is_open(connection: sqlite3.Connection) -> bool:
    """Return whether no task has closed the connection."""
    try:
        return connection.total_changes >= 0
    except sqlite3.ProgrammingError:
        return False


def _forbid_ends(connection: sqlite3.Connection, forbidden: bool) -> None:
    """Let SQLite refuse statements that begin or end a transaction. Undo what the task has set on the connection."""
    connection.set_authorizer(_authorized if forbidden else None)
    connection.row_factory, connection.text_factory = None, str


def _authorized(action: int, *about: object) -> int:
    return sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_TRANSACTION else sqlite3.SQLITE_OK


def _rows(connection: sqlite3.Connection, statement: str, parameters: Any) -> list[tuple[Any, ...]]:
    return connection.execute(statement, parameters).fetchall()


def _put(connection: sqlite3.Connection, run_id: str, signal: Signal) -> None:
    signals.put(connection, run_id, signal)
