"""Connections: how a file is opened, and how a transaction begins when others write too."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from cano import StoreUnavailableError

from cano_sqlite.failures import is_busy
from cano_sqlite.schema import check, migrate
from cano_sqlite.settings import Settings

R = TypeVar("R")

_SYNCHRONOUS = {"full": "PRAGMA synchronous = FULL", "normal": "PRAGMA synchronous = NORMAL"}
_PAUSE = 0.002


def connect_for_writing(settings: Settings) -> sqlite3.Connection:
    """A connection that writes; makes the file and its tables where they are missing."""

    def prepare(connection: sqlite3.Connection) -> None:
        _check(connection, settings)  # before anything is changed in what may be another program's file
        connection.execute("PRAGMA page_size = 2048")  # of a new file: a step changes two pages
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise StoreUnavailableError(
                f"the store {settings.path} cannot be used: a write-ahead log is impossible there"
            )
        connection.execute(_SYNCHRONOUS[settings.synchronous])
        connection.execute("PRAGMA journal_size_limit = 67108864")
        connection.execute("BEGIN IMMEDIATE")
        migrate(connection, settings.path)
        connection.execute("COMMIT")

    return _connect(settings, prepare)


def connect_for_reading(settings: Settings) -> sqlite3.Connection:
    """A connection that reads, whatever others write meanwhile."""

    def prepare(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA query_only = ON")
        _check(connection, settings)

    return _connect(settings, prepare)


def _check(connection: sqlite3.Connection, settings: Settings) -> None:
    connection.execute("BEGIN")  # all that is checked must be of one moment: others may be making the tables
    check(connection, settings.path)
    connection.execute("ROLLBACK")


def _connect(settings: Settings, prepare: Callable[[sqlite3.Connection], None]) -> sqlite3.Connection:
    # SQLite's own way of waiting is unfair: whoever has waited long looks seldom, and is overtaken by those who come
    connection = sqlite3.connect(settings.path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
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


def patiently(settings: Settings, action: Callable[[], R]) -> R:
    """What `action` returns, tried again for `busy_timeout` seconds while other connections are in the way."""
    deadline = time.monotonic() + settings.busy_timeout
    while True:
        try:
            return action()
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() >= deadline:
                raise
        time.sleep(random.uniform(_PAUSE / 10, _PAUSE))


def roll_back(connection: sqlite3.Connection) -> None:
    """Undo the transaction under way, if there is one."""
    if connection.in_transaction:
        with suppress(sqlite3.Error):  # SQLite did so itself already
            connection.execute("ROLLBACK")
