"""Connections of users to the database of a store, of each library that Cano knows, with one table of orders."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from inspect import isawaitable
from typing import Any

import aiosqlite
import psycopg
from sqlalchemy import URL, Connection, create_engine, make_url, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

CREATE = "CREATE TABLE orders (what TEXT NOT NULL)"
INSERT = "INSERT INTO orders VALUES ('lamp')"


class User:
    """A connection or session of a user.

    Args:
        given: what the user passes to the kernel.
        insert: inserts an order on it.
    """

    def __init__(self, given: Any, insert: Callable[[], Any]) -> None:
        self.given = given
        self._insert = insert

    async def order(self) -> None:
        """Insert an order."""
        await done(self._insert())

    async def end(self, how: str) -> None:
        """Call `commit`, `rollback` or `close`."""
        end = getattr(self.given, how)
        # a thread, since COMMIT may wait for a transaction that this event loop has to end
        await (asyncio.to_thread(end) if isinstance(self.given, psycopg.Connection) else done(end()))


async def done(result: Any) -> Any:
    """Await it, if it is awaitable."""
    return await result if isawaitable(result) else result


def file_of(url: str) -> str:
    """The file of an SQLite store."""
    return url.partition("?")[0].removeprefix("sqlite:///")


def server_of(url: str) -> str:
    """The URL of a PostgreSQL store's database, without Cano's options."""
    base, _, options = url.partition("?")
    kept = [each for each in options.split("&") if each.partition("=")[0] in ("host", "port", "user", "dbname")]
    return f"{base}?{'&'.join(kept)}" if kept else base


def alchemy_of(url: str, driver: str) -> URL:
    """The same database for SQLAlchemy."""
    if url.startswith("sqlite:"):
        return make_url(f"sqlite+{driver}:///{file_of(url)}")
    return make_url(server_of(url)).set(drivername=f"postgresql+{driver}")


def _plain(given: Any) -> User:
    return User(given, lambda: given.execute(INSERT))


def _of_alchemy(given: Any) -> User:
    return User(given, lambda: given.execute(text(INSERT)))


def _engine(url: str) -> Any:
    return create_engine(alchemy_of(url, "pysqlite" if url.startswith("sqlite:") else "psycopg"))


def _async_engine(url: str) -> AsyncEngine:
    return create_async_engine(alchemy_of(url, "aiosqlite" if url.startswith("sqlite:") else "psycopg"))


async def _driver(url: str) -> User:
    return _plain(sqlite3.connect(file_of(url)) if url.startswith("sqlite:") else psycopg.connect(server_of(url)))


async def _async_driver(url: str) -> User:
    if url.startswith("sqlite:"):
        return _plain(await aiosqlite.connect(file_of(url)))
    return _plain(await psycopg.AsyncConnection.connect(server_of(url)))


async def _connection(url: str) -> User:
    connection: Connection = _engine(url).connect()
    return _of_alchemy(connection)


async def _session(url: str) -> User:
    return _of_alchemy(Session(_engine(url)))


async def _scoped(url: str) -> User:
    return _of_alchemy(scoped_session(sessionmaker(_engine(url))))


async def _async_connection(url: str) -> User:
    connection: AsyncConnection = await _async_engine(url).connect()
    return _of_alchemy(connection)


async def _async_session(url: str) -> User:
    return _of_alchemy(AsyncSession(_async_engine(url)))


KINDS: dict[str, Callable[[str], Awaitable[User]]] = {
    "driver": _driver,
    "async driver": _async_driver,
    "connection": _connection,
    "session": _session,
    "scoped session": _scoped,
    "async connection": _async_connection,
    "async session": _async_session,
}


@asynccontextmanager
async def connected(url: str, kind: str = "driver") -> AsyncIterator[User]:
    """Provide a connection of a kind, and close it, and its engine."""
    user = await KINDS[kind](url)
    try:
        yield user
    finally:
        await user.end("close")
        bind = getattr(user.given, "bind", None) or getattr(user.given, "engine", None)
        if bind is not None:
            await done(bind.dispose())


def ask(url: str, statement: str) -> list[Any]:
    """Execute a statement on a connection of its own."""
    if url.startswith("sqlite:"):
        connection = sqlite3.connect(file_of(url))
        try:
            with connection:
                return connection.execute(statement).fetchall()
        finally:
            connection.close()
    with psycopg.connect(server_of(url)) as server:
        cursor = server.execute(statement)
        return cursor.fetchall() if cursor.description else []
