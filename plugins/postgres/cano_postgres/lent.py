"""A user's connection, as the statements of the store use one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from psycopg import AsyncConnection, AsyncCursor, Connection, Cursor
from psycopg.rows import tuple_row

from cano_postgres import arrays


class Lent:
    """A connection of a user. It executes statements as an `AsyncConnection` does, whatever the user has set on it.

    Args:
        connection: an open connection. Statements of one that is not asynchronous are executed in a thread, since the
            event loop may have to end the transaction that they wait for.
    """

    def __init__(self, connection: Connection[Any] | AsyncConnection[Any]) -> None:
        self._connection = connection

    async def execute(self, statement: Any, values: Any = None, *, binary: bool = False, prepare: bool = False) -> Rows:
        """Execute a statement, without preparing it, and return its rows."""
        if isinstance(self._connection, AsyncConnection):
            cursor = AsyncCursor(self._connection, row_factory=tuple_row)
            arrays.accept(cursor.adapters)
            await cursor.execute(statement, values, prepare=False, binary=binary)
            return Rows(await cursor.fetchall() if cursor.description else [], cursor.rowcount)
        return await asyncio.to_thread(_executed, self._connection, statement, values, binary)


def _executed(connection: Connection[Any], statement: Any, values: Any, binary: bool) -> Rows:
    cursor = Cursor(connection, row_factory=tuple_row)
    arrays.accept(cursor.adapters)
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
