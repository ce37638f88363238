"""A user's connection, as the statements of the store use one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import AsyncConnection, AsyncCursor, Connection, Cursor
from psycopg.adapt import AdaptersMap
from psycopg.rows import tuple_row

from cano_postgres import arrays

_ADAPTERS = AdaptersMap(psycopg.adapters)  # not those that the user has set on the connection
arrays.accept(_ADAPTERS)


class _AsyncCursor(AsyncCursor[tuple[Any, ...]]):
    @property
    def adapters(self) -> AdaptersMap:
        return _ADAPTERS


class _Cursor(Cursor[tuple[Any, ...]]):
    @property
    def adapters(self) -> AdaptersMap:
        return _ADAPTERS


class Lent:
    """A connection of a user. It executes statements as an `AsyncConnection` does, whatever the user has set on it.

    Args:
        connection: an open connection. Statements of one that is not asynchronous are executed in a thread, since the
            event loop may have to end the transaction that they wait for.
    """

    def __init__(self, connection: Connection[Any] | AsyncConnection[Any]) -> None:
        self._connection = connection

    async def execute(self, statement: Any, values: Any = None, *, binary: bool = False, prepare: bool = False) -> Rows:
        """Execute a statement, without preparing it, and return its rows.

        Cancellation: it has ended when this raises.
        """
        if isinstance(self._connection, AsyncConnection):
            cursor = _AsyncCursor(self._connection, row_factory=tuple_row)
            await cursor.execute(statement, values, prepare=False, binary=binary)
            return Rows(await cursor.fetchall() if cursor.description else [], cursor.rowcount)
        executing = asyncio.ensure_future(asyncio.to_thread(_executed, self._connection, statement, values, binary))
        try:
            return await asyncio.shield(executing)
        except asyncio.CancelledError:
            await asyncio.wait({executing})
            raise


def _executed(connection: Connection[Any], statement: Any, values: Any, binary: bool) -> Rows:
    cursor = _Cursor(connection, row_factory=tuple_row)
    cursor.execute(statement, values, prepare=False, binary=binary)
    return Rows(cursor.fetchall() if cursor.description else [], cursor.rowcount)


class Rows:
    """The rows of an answer, with the methods of an `AsyncCursor`.

    Attributes:
        count: the number of rows that the statement has written.
    """

    def __init__(self, rows: Sequence[tuple[Any, ...]], count: int) -> None:
        self._rows = list(rows)
        self.count = count

    async def fetchall(self) -> Sequence[tuple[Any, ...]]:
        """Return the rows that were not fetched before."""
        return await self.fetchmany(len(self._rows))

    async def fetchone(self) -> tuple[Any, ...] | None:
        """Return the next row, or None."""
        return self._rows.pop(0) if self._rows else None

    async def fetchmany(self, size: int) -> Sequence[tuple[Any, ...]]:
        """Return the next rows."""
        rows, self._rows = self._rows[:size], self._rows[size:]
        return rows
