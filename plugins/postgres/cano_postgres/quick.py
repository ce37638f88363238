"""The quickest way for the most frequent call, one step of one run: libpq itself, without a cursor in between.

Waiting for a cursor of psycopg's takes as long as all that the server does, the disk aside.
"""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import psycopg
from cano_msgspec.packing import LARGE
from psycopg import AsyncConnection
from psycopg.pq import DiagnosticField, ExecStatus
from psycopg.pq.abc import PGconn, PGresult

from cano_postgres.commits import Append
from cano_postgres.work import Work

_PREPARE = """
    PREPARE cano_step (text, bigint, bigint, bigint, text, float8, bigint, bytea, integer) AS
    WITH made AS (
        UPDATE runs SET seq = $4, state = $5, updated = $6, head = head + 1, tail = tail + $9, status = 'running',
            wake = NULL, awaited = NULL, extra = NULL
        WHERE run_id = $1 AND seq = $3 AND token = $2 RETURNING id, head, tail
    ), line AS (
        INSERT INTO journal (run, line, seq, state, status, at, mark, changes)
        SELECT id, head, $4, $5, 'running', $6, $7, $8 FROM made
    )
    SELECT tail FROM made"""
_BINARY = [1] * 9
_big, _real, _small = (struct.Struct(form) for form in ("!q", "!d", "!i"))


def values_of(work: Work) -> list[bytes] | None:
    """What `step` tells the server of a commit; None for what must go the other way."""
    if not isinstance(work, Append) or not work.plain or work.size >= LARGE:
        return None
    run_id, token, expected, seq, state, at, mark, changes, weight = work.line
    big = _big.pack
    try:
        return [
            run_id.encode(), big(token), big(expected), big(seq), state.encode(), _real.pack(at), big(mark), changes,
            _small.pack(weight),
        ]  # fmt: skip
    except (struct.error, UnicodeError):
        return None  # the other way has the words for what is wrong


class QuickConnection(AsyncConnection[tuple[Any, ...]]):
    """A connection that also makes steps, one at a time. All else that it does is psycopg's.

    From its first step on it stays watched by the event loop, until it is used in another way.
    """

    _watched: int | None = None
    """The socket, while it is watched: where it breaks, libpq closes and forgets it at once."""
    _pending = False
    _tail: int | None = None
    _failure: Exception | None = None
    _waiter: asyncio.Future[None] | None = None

    async def prepare_steps(self) -> None:
        """Make a new connection ready for `step`."""
        await self.execute(_PREPARE, prepare=False)

    async def step(self, values: list[bytes], within: float) -> int | None:
        """Make a commit: the length of the run's tail, or None where it is stale.

        Whatever comes of it, the connection is then ready for what is next, or closed: when this is cancelled, the
        answer is read before the cancellation goes on.

        Args:
            values: what `values_of` says.
            within: seconds after which a silent server is given up.

        Raises:
            psycopg.Error: something went wrong, and it is not made; or nobody knows, if the connection is lost.
            TimeoutError: the server said nothing, and nobody knows.
        """
        loop = asyncio.get_running_loop()
        self.pgconn.send_query_prepared(b"cano_step", values, _BINARY, result_format=1)
        self._pending, self._tail, self._failure = True, None, None
        if self._watched is None:
            self._watched = self.pgconn.socket
            loop.add_reader(self._watched, self._read)
        self._send()
        timer = loop.call_later(within, self._break, TimeoutError())
        cancelled: asyncio.CancelledError | None = None
        while self._pending:
            self._waiter = loop.create_future()
            try:
                await self._waiter
            except asyncio.CancelledError as error:
                cancelled = error
        timer.cancel()
        if cancelled is not None:
            raise cancelled
        if self._failure is not None:
            raise self._failure
        return self._tail

    async def wait(self, gen: Any, *more: Any, **options: Any) -> Any:
        """See psycopg: all that it sends and reads goes through this."""
        self._rest()
        return await super().wait(gen, *more, **options)

    async def close(self) -> None:
        """See psycopg."""
        self._rest()
        await super().close()

    def _send(self) -> None:
        """Send what is not yet on its way."""
        assert self._watched is not None
        loop = asyncio.get_running_loop()
        try:
            if self.pgconn.flush():
                loop.add_writer(self._watched, self._send)
            else:
                loop.remove_writer(self._watched)
        except psycopg.Error as error:
            self._break(error)

    def _read(self) -> None:
        """Take what is there."""
        pgconn = self.pgconn
        try:
            pgconn.consume_input()
            while not pgconn.is_busy():
                result = pgconn.get_result()
                if result is None:
                    return self._end(self._failure)
                if result.status != ExecStatus.TUPLES_OK:
                    self._failure = self._failure or _error(pgconn, result)
                elif result.ntuples:
                    (self._tail,) = _small.unpack(result.get_value(0, 0) or b"")
        except psycopg.Error as error:
            self._break(error)

    def _break(self, failure: Exception) -> None:
        """Give the connection up: whatever it would still say is the answer to nothing."""
        self._rest()
        self.pgconn.finish()
        self._end(failure)

    def _end(self, failure: Exception | None) -> None:
        self._pending, self._failure = False, failure
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _rest(self) -> None:
        """Let the event loop watch it no longer."""
        if self._watched is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._watched)
            loop.remove_writer(self._watched)
            self._watched = None


def _error(pgconn: PGconn, result: PGresult) -> psycopg.Error:
    state = result.error_field(DiagnosticField.SQLSTATE)
    text = result.get_error_message()
    if state is None:
        return psycopg.OperationalError(text)
    try:
        kind = psycopg.errors.lookup(state.decode())
    except KeyError:
        return psycopg.DatabaseError(f"{text} ({state.decode()})")
    return kind(text)
