"""The fastest way for the most frequent call, one step of one run: libpq without a psycopg cursor.

A cursor takes as long as the server does, without the disk.
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
        INSERT INTO journal (run, line, seq, state, status, at, mark, packed)
        SELECT id, head, $4, $5, 'running', $6, $7, $8 FROM made
    )
    SELECT tail FROM made"""
_BINARY = [1] * 9
_big, _real, _small = (struct.Struct(form) for form in ("!q", "!d", "!i"))


def values_of(work: Work) -> list[bytes] | None:
    """Return the values of a commit for `step`, or None if only a batch can do the work."""
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
        return None  # the batch has the error for it


class QuickConnection(AsyncConnection[tuple[Any, ...]]):
    """A psycopg connection that also commits plain steps, one at a time.

    From its first step on, the event loop watches its socket, until the connection is used in another way.
    """

    _watched: int | None = None
    """The socket while it is watched: if it breaks, libpq closes and discards it at once."""
    _pending = False
    _tail: int | None = None
    _failure: Exception | None = None
    _waiter: asyncio.Future[None] | None = None

    async def prepare_steps(self) -> None:
        """Prepare the statement of `step` on a new connection."""
        await self.execute(_PREPARE, prepare=False)

    async def step(self, values: list[bytes], within: float) -> int | None:
        """Commit a step, and return the length of the run's tail, or None if it is stale.

        Cancellation: the answer is read before the cancellation is raised, so that the connection stays usable.

        Args:
            values: the result of `values_of`.
            within: seconds to wait for an answer.

        Raises:
            psycopg.Error: the commit failed; if the connection is lost, it may have been applied.
            TimeoutError: the server did not answer, and the commit may have been applied.
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
        """See psycopg, which sends and reads everything through this method."""
        self._rest()
        return await super().wait(gen, *more, **options)

    async def close(self) -> None:
        """See psycopg."""
        self._rest()
        await super().close()

    def _send(self) -> None:
        """Send what the socket has not taken yet."""
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
        """Read what has arrived."""
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
        """Close the connection, so that no late answer is taken for that of another call."""
        self._rest()
        self.pgconn.finish()
        self._end(failure)

    def _end(self, failure: Exception | None) -> None:
        self._pending, self._failure = False, failure
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _rest(self) -> None:
        """Stop watching the socket."""
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
