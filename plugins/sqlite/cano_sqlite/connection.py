"""Connections: opening the file, and waiting for other writers."""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from cano import StoreUnavailableError

from cano_sqlite.failures import is_busy
from cano_sqlite.identity import check_copy
from cano_sqlite.schema import check, migrate
from cano_sqlite.settings import Settings

R = TypeVar("R")

_SYNCHRONOUS = {"full": "PRAGMA synchronous = FULL", "normal": "PRAGMA synchronous = NORMAL"}
_PAUSE = 0.002
_creating = threading.Lock()


def connect_for_writing(settings: Settings) -> sqlite3.Connection:
    """Return a connection for writing. Create the file and its tables if they are missing."""
    is_whole = os.path.exists(f"{settings.path}-wal")  # before the connection creates one

    def prepare(connection: sqlite3.Connection) -> None:
        nonlocal is_whole
        _check(connection, settings)  # first, since the file may belong to another program
        if not is_whole:
            check_copy(connection, settings.path)
            is_whole = True  # what is repeated because of a lock finds the log that it has begun itself
        connection.execute("PRAGMA page_size = 2048")  # of a new file: a step writes two pages
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise StoreUnavailableError(
                f"the store {settings.path} cannot be used: it cannot have a write-ahead log; use a local disk"
            )
        connection.execute(_SYNCHRONOUS[settings.synchronous])
        connection.execute("PRAGMA journal_size_limit = 67108864")
        connection.execute("BEGIN IMMEDIATE")
        migrate(connection, settings.path)
        connection.execute("COMMIT")

    _create(settings)
    return _connect(settings, prepare)


def _create(settings: Settings) -> None:
    """Create an empty file with the configured mode if there is none. SQLite gives `-wal` and `-shm` the same mode."""
    path = settings.path
    # SQLite keeps the log beside the target of a link; and who owns a link can change its target
    for each in (path, *(path.with_name(f"{path.name}{end}") for end in ("-wal", "-shm", "-journal"))):
        try:
            linked = each.is_symlink()
        except OSError as error:
            raise StoreUnavailableError(
                f"the store {path} cannot be used: {each.name} cannot be looked for: {error.strerror or error}"
            ) from error
        if linked:
            raise StoreUnavailableError(
                f"the store {path} cannot be used: {each.name} is a symbolic link, to {each.resolve()}; name the file "
                "itself, which no other user can replace"
            )
    # closing any descriptor of a file releases this process's locks on it, so no thread may lock the file before that
    with _creating, suppress(OSError):  # the file exists, or SQLite reports the problem
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, settings.file_mode & 0o600)
        try:
            if os.name != "nt":
                os.fchmod(descriptor, settings.file_mode)
        finally:
            os.close(descriptor)


def connect_for_reading(settings: Settings) -> sqlite3.Connection:
    """Return a connection for reading. Writers do not block it."""

    def prepare(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA query_only = ON")
        _check(connection, settings)

    return _connect(settings, prepare)


def _check(connection: sqlite3.Connection, settings: Settings) -> None:
    connection.execute("BEGIN")  # one consistent view: another process may be creating the tables
    check(connection, settings.path)
    connection.execute("ROLLBACK")


def _connect(settings: Settings, prepare: Callable[[sqlite3.Connection], None]) -> sqlite3.Connection:
    # SQLite's own busy handler is unfair: it polls less often the longer it waits, so that newcomers overtake it
    connection = sqlite3.connect(settings.path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA trusted_schema = OFF")  # the file may come from others: its schema runs no function
        patiently(settings, lambda: _prepare(connection, prepare))
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, prepare: Callable[[sqlite3.Connection], None]) -> None:
    try:
        prepare(connection)
    except BaseException:
        roll_back(connection)
        raise


def patiently(settings: Settings, action: Callable[[], R], hurried: Callable[[], bool] = bool) -> R:
    """Return the result of `action`, retried for `busy_timeout` seconds while other connections hold a lock.

    While `hurried` returns True, the pauses are so short that this connection gets the lock before others.
    """
    deadline = time.monotonic() + settings.busy_timeout
    while True:
        try:
            return action()
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() >= deadline:
                raise
        time.sleep(_PAUSE / 10 if hurried() else random.uniform(_PAUSE / 10, _PAUSE))


def roll_back(connection: sqlite3.Connection) -> None:
    """Roll back the open transaction, if there is one."""
    if connection.in_transaction:
        with suppress(sqlite3.Error):  # SQLite has rolled back already
            connection.execute("ROLLBACK")
