"""Works for the writer, and the execution of a batch's statements in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString, Protocol

from cano_postgres.connection import Connection

Rows = Sequence[tuple[Any, ...]]
Statement = tuple[LiteralString, Sequence[Any] | Mapping[str, Any]]


class Work(Protocol):
    """One change of the store. Its constructor packs or copies the arguments, since the caller may change them later.

    Attributes:
        run_id: the run, if it is one. A batch has at most one work for each run.
        size: approximate number of bytes that it writes.
        news: the run that other backends are notified of; "" for any run, None for none.
        awaits: whether it stores a signal, or a run that is parked until one comes.
    """

    @property
    def run_id(self) -> str | None: ...
    @property
    def size(self) -> int: ...
    @property
    def news(self) -> str | None: ...
    @property
    def awaits(self) -> bool: ...

    def statements(self, *, again: bool) -> Sequence[Statement]:
        """Return the statements of the work, for one transaction.

        Args:
            again: whether it may have been done before. Then the statements must not do it a second time.
        """
        ...

    def outcome(self, rows: Sequence[Rows], *, again: bool) -> Any:
        """Return the result, from the rows of each statement."""
        ...


async def carry_out(connection: Connection, statements: Sequence[Statement]) -> list[Rows]:
    """Execute statements in one transaction and one round trip, and return the rows of each.

    Raises:
        psycopg.Error: one failed, and none has an effect.
    """
    if len(statements) == 1:
        ((text, values),) = statements
        cursor = await connection.execute(text, values, binary=True)
        return [await cursor.fetchall() if cursor.description else []]
    cursors = []
    async with connection.pipeline():
        for text, values in statements:
            cursors.append(await connection.execute(text, values, binary=True))
    return [await cursor.fetchall() if cursor.description else [] for cursor in cursors]
