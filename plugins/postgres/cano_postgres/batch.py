"""One batch: works for different runs, done in one transaction and one round trip."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from cano_msgspec.packing import stale

from cano_postgres.arrays import texts
from cano_postgres.commits import WHERE_THEY_STAND, Append, joined
from cano_postgres.connection import Connection
from cano_postgres.notices import sender, telling
from cano_postgres.quick import QuickConnection, values_of
from cano_postgres.signals import ANSWERED, LOCK
from cano_postgres.work import Statement, Work, carry_out

FEW = 20
"""Plain steps that take longer in a statement of their own than in one with other commits."""


class Batch:
    """Does works together, and notifies other backends.

    Args:
        schema: the name of the schema, which is also that of the notification channel.
        key: the writer's key.
    """

    def __init__(self, schema: str, key: int) -> None:
        self._channel = schema
        self._sender = sender(key)

    async def carry_out(
        self, connection: QuickConnection, works: Sequence[Work], *, again: bool, within: float
    ) -> list[Any]:
        """Do the works, and return the result of each, or an exception for a refused one.

        Args:
            connection: the writing connection.
            works: works for different runs.
            again: whether they may have been done before.
            within: seconds to wait for an answer.

        Raises:
            psycopg.Error: it failed, and none of them is done.
            TimeoutError: the server did not answer.
        """
        answers: list[Any]
        if len(works) == 1 and not again and (values := values_of(works[0])):
            answers = [await connection.step(values, within)]
            if None not in answers:
                return answers
        async with asyncio.timeout(within):
            answers = await self._together(connection, works, again=again)
            if None in answers:
                await self._explain(connection, works, answers)
        return answers

    async def _together(self, connection: Connection, works: Sequence[Work], *, again: bool) -> list[Any]:
        statements: list[Statement] = []
        spans: list[tuple[int, int]] = [(0, 0)] * len(works)
        groups: list[list[Append]] = [[], []]
        if awaiting := sorted(work.run_id for work in works if work.awaits and work.run_id is not None):
            statements.append((LOCK, (texts(awaiting),)))
        # in the order of the ids, so that two processes that lock the same rows cannot deadlock
        for index in sorted(range(len(works)), key=lambda index: works[index].run_id or ""):
            work = works[index]
            if isinstance(work, Append) and not again:
                groups[work.plain].append(work)
                continue
            begin = len(statements)
            statements += work.statements(again=again)
            spans[index] = begin, len(statements)
        if groups[False] and len(groups[True]) < FEW:
            groups = [groups[False] + groups[True], []]
        begin = len(statements)
        statements += [joined(group) for group in groups if group]
        end = len(statements)
        if awaiting:
            statements.append((ANSWERED, (texts(awaiting),)))
        statements += [more for work in works if isinstance(work, Append) and not again for more in work.more]
        if news := [work.news for work in works if work.news is not None]:
            statements.append(telling(self._channel, self._sender, news))
        rows = await carry_out(connection, statements)

        tails = {run_id: tail for made in rows[begin:end] for run_id, tail in made}
        answers: list[Any] = []
        for work, (first, last) in zip(works, spans, strict=True):
            if isinstance(work, Append) and not again:
                answers.append(tails.get(work.run_id))
            else:
                answers.append(work.outcome(rows[first:last], again=again))
        return answers

    async def _explain(self, connection: Connection, works: Sequence[Work], answers: list[Any]) -> None:
        """Replace the answers of stale commits by errors."""
        appends = {
            index: work for index, work in enumerate(works) if isinstance(work, Append) and answers[index] is None
        }
        if not appends:
            return
        (rows,) = await carry_out(
            connection, [(WHERE_THEY_STAND, (texts([work.run_id for work in appends.values()]),))]
        )
        found = {run_id: (seq, token) for run_id, seq, token in rows}
        for index, work in appends.items():
            run_id, token, seq, *_ = work.line
            answers[index] = stale(run_id, seq, token, found.get(run_id))
