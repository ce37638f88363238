"""What a writer is given to do, and how the works of one batch become the statements of one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, LiteralString, Protocol

from cano_postgres.connection import Connection

Rows = Sequence[tuple[Any, ...]]
Statement = tuple[LiteralString, Sequence[Any]]


class Work(Protocol):
    """One change of the store. All is packed, or copied, when it is made: its arguments may change afterwards.

    Attributes:
        run_id: the run concerned, if it is one. Of each run there is one work in a batch at most.
        size: about how many bytes it writes.
        news: the run that somebody elsewhere may now go on with, or None.
    """

    @property
    def run_id(self) -> str | None: ...
    @property
    def size(self) -> int: ...
    @property
    def news(self) -> str | None: ...

    def statements(self, *, again: bool) -> Sequence[Statement]:
        """What the server is to do, in one transaction.

        Args:
            again: whether it may have been done before. Then doing it must come to the same as doing it once.
        """
        ...

    def outcome(self, rows: Sequence[Rows], *, again: bool) -> Any:
        """What came of it, told by the rows of each statement."""
        ...


async def carry_out(connection: Connection, statements: Sequence[Statement]) -> list[Rows]:
    """The rows of each statement; all of them are one transaction and one round trip.

    Raises:
        psycopg.Error: one of them failed, and none of them has had an effect.
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
