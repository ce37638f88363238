"""The store in the transactions of users' own connections to its file."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

from cano import AuditEntry, Capabilities, ConfigurationError, RunRecord, Signal, Signals, StoreError, Transition

from cano_sqlite import audit, reading, records, signals
from cano_sqlite.failures import is_busy, translated
from cano_sqlite.settings import Settings
from cano_sqlite.tails import Tails

R = TypeVar("R")

_PAUSE = 0.002
_LOCK = "DELETE FROM news WHERE 0"  # takes the lock, and deletes nothing


class Joined:
    """The store in the open transaction of a connection. See `JoinedStore` for the methods.

    All is done in the connection's thread: that of the caller, or for aiosqlite its own.

    Args:
        settings: the store's settings.
        capabilities: the store's promises.
        connection: a connection of sqlite3 or aiosqlite.

    Attributes:
        connection: the connection of sqlite3.
    """

    def __init__(self, settings: Settings, capabilities: Capabilities, connection: Any) -> None:
        self.capabilities = capabilities
        self._settings = settings
        self._in_thread = None
        if not isinstance(connection, sqlite3.Connection):
            kind = type(connection)
            self._in_thread = getattr(connection, "_execute", None)  # aiosqlite has no public way into its thread
            if kind.__module__.partition(".")[0] != "aiosqlite" or self._in_thread is None:
                self._refuse(f"it is of type {kind.__module__}.{kind.__qualname__}, not of sqlite3")
            try:
                connection = connection._conn
            except ValueError as error:
                self._refuse(f"it is not open: {error}")
        self.connection: sqlite3.Connection = connection

    async def begin(self) -> None:
        """Take the lock for writing, and begin a transaction if the connection has none and the driver begins them."""
        await self._do(self._check, None)
        begun = monotonic()
        while (patience := await self._do(self._lock, None)) is not None:
            if monotonic() >= begun + patience:
                problem = f"another connection kept it locked for {patience:g} s, the connection's timeout"
                raise StoreError(f"the store {self._settings.path} cannot be used by a connection: {problem}")
            # not SQLite's own way, which would block an event loop that the lock's holder needs
            await asyncio.sleep(random.uniform(_PAUSE / 10, _PAUSE))

    async def create(self, run: RunRecord, entry: AuditEntry | None = None) -> RunRecord:
        job: Any = records.Create(run, Tails(self._settings.snapshot_every))
        if entry is not None:
            job = audit.Audited(job, entry, lambda found: found is run)
        created: RunRecord = await self._write(job.do, run.run_id)
        return created

    async def put_signal(self, run_id: str, signal: Signal, entry: AuditEntry | None = None) -> None:
        await self._put(run_id, signal, None, entry)

    async def put_signal_within(self, run_id: str, signal: Signal, most: int, entry: AuditEntry | None = None) -> bool:
        return await self._put(run_id, signal, most, entry) is not None

    async def _put(self, run_id: str, signal: Signal, most: int | None, entry: AuditEntry | None) -> bool | None:
        def put(connection: sqlite3.Connection) -> bool | None:
            new = signals.put(connection, run_id, signal, most)
            if new and entry is not None:
                audit.add(connection, [entry])
            return new

        return await self._write(put, run_id)

    async def load(self, run_id: str) -> RunRecord | None:
        return await self._do(partial(reading.load, run_id=run_id), run_id)

    async def history(self, run_id: str) -> Sequence[Transition]:
        return await self.history_page(run_id, None, None)

    async def history_page(self, run_id: str, after: int | None, limit: int | None) -> Sequence[Transition]:
        return await self._do(partial(reading.history, run_id=run_id, after=after, limit=limit), run_id)

    async def signals(self, run_id: str) -> Signals:
        return await self._do(partial(signals.every, run_id=run_id), run_id)

    async def _write(self, work: Callable[[sqlite3.Connection], R], run_id: str) -> R:
        """Do `work` completely or not at all: the user may catch its error and commit."""

        def write(connection: sqlite3.Connection) -> R:
            connection.execute("SAVEPOINT cano")
            try:
                return work(connection)
            except BaseException:
                if connection.in_transaction:  # some errors roll it back
                    connection.execute("ROLLBACK TO cano")
                raise
            finally:
                if connection.in_transaction:
                    connection.execute("RELEASE cano")

        return await self._do(write, run_id)

    async def _do(self, work: Callable[[sqlite3.Connection], R], run_id: str | None) -> R:
        try:
            if self._in_thread is None:
                return _plainly(self.connection, work)
            done: R = await self._in_thread(_plainly, self.connection, work)
            return done
        except sqlite3.Error as error:
            raise translated(error, self._settings.path, run_id) from error

    def _check(self, connection: sqlite3.Connection) -> None:
        """Raise ConfigurationError unless the connection is one to the store's file, and may have a transaction."""
        try:
            files = [file for _, name, file in connection.execute("PRAGMA database_list") if name == "main"]
        except sqlite3.ProgrammingError as error:
            self._refuse(f"it cannot be used here: {error}")
        file = "".join(files)
        if not file or not _are_same(file, self._settings.path):
            self._refuse(f"its file is {file or 'in memory'}")
        legacy = getattr(sqlite3, "LEGACY_TRANSACTION_CONTROL", -1)
        mode = getattr(connection, "autocommit", legacy)
        if not connection.in_transaction and (connection.isolation_level is None if mode == legacy else mode):
            self._refuse("no transaction is open, so that each statement would be committed by itself; begin one")

    def _lock(self, connection: sqlite3.Connection) -> float | None:
        """Let the transaction have the lock for writing, and return None.

        If it is not free, return the seconds for which the connection would wait, without waiting.
        """
        ((milliseconds,),) = connection.execute("PRAGMA busy_timeout").fetchall()
        connection.execute("PRAGMA busy_timeout = 0")
        try:
            connection.execute(_LOCK if connection.in_transaction else "BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_BUSY_SNAPSHOT:
                self._refuse(
                    "its transaction has read the file, and another one has changed it since; roll it back, and begin "
                    "it again with BEGIN IMMEDIATE"
                )
            if not is_busy(error):
                raise
            return float(milliseconds / 1000)
        finally:
            connection.execute(f"PRAGMA busy_timeout = {milliseconds}")
        return None

    def _refuse(self, problem: str) -> Any:
        where = f"a connection to the file {self._settings.path}"
        raise ConfigurationError(f"the store needs {where}, in a transaction, and cannot use this one: {problem}")


def _are_same(file: str, other: Path) -> bool:
    try:
        return os.path.samefile(file, other)
    except OSError:
        return False


def _plainly(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], R]) -> R:
    """Do `work` without what the user has set for the results of queries."""
    user = connection.row_factory, connection.text_factory
    connection.row_factory, connection.text_factory = None, str
    try:
        return work(connection)
    finally:
        connection.row_factory, connection.text_factory = user
