"""A store in a file, and a second connection to that file."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cano_sqlite import SqliteBackend


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file, which does not exist yet."""
    return tmp_path / "runs.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteBackend]:
    """An open store that compacts early, and is quick on any disk."""
    store = SqliteBackend(path, snapshot_every=5, synchronous="normal")
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def ask(path: Path) -> Iterator[Callable[..., list[Any]]]:
    """Execute a statement on a connection of its own, and return the rows."""
    with ExitStack() as stack:

        @cache
        def connection() -> sqlite3.Connection:
            connection = stack.enter_context(closing(sqlite3.connect(path, isolation_level=None)))
            connection.execute("PRAGMA synchronous = OFF")
            return connection

        def run(statement: str, *values: Any) -> list[Any]:
            named = values[0] if values and isinstance(values[0], dict) else values
            return connection().execute(statement, named).fetchall()

        yield run


@pytest.fixture
def locked(path: Path) -> Callable[[], Any]:
    """A block in which another connection holds the write lock."""

    @contextmanager
    def hold() -> Iterator[None]:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("ROLLBACK")

    return hold
