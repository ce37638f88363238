"""The quickest way for the most frequent call, one step of one run: libpq itself, without a cursor in between.

Waiting for a cursor of psycopg's takes as long as all that the server does, the disk aside.
"""

from __future__ import annotations

import asyncio
import struct

import psycopg
from cano_msgspec.packing import LARGE
from psycopg.pq import DiagnosticField, ExecStatus
from psycopg.pq.abc import PGconn, PGresult

from cano_postgres.commits import Append
from cano_postgres.connection import Connection
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


async def prepare(connection: Connection) -> None:
    """Make a new connection ready for `step`."""
    await connection.execute(_PREPARE, prepare=False)


def values(work: Work) -> list[bytes] | None:
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


async def step(connection: Connection, values: list[bytes], within: float) -> int | None:
    """Make a commit: the length of the run's tail, or None where it is stale.

    Whatever comes of it, the connection is then ready for what is next, or closed: when this is cancelled, it reads the
    answer before the cancellation goes on.

    Args:
        connection: one that nobody else uses meanwhile.
        values: what `values` says.
        within: seconds after which a silent server is given up.

    Raises:
        psycopg.Error: something went wrong, and it is not made; or nobody knows, if the connection is lost.
        TimeoutError: the server said nothing, and nobody knows.
    """
    connection.pgconn.send_query_prepared(b"cano_step", values, _BINARY, result_format=1)
    answer = _Answer(connection.pgconn, within)
    await answer.arrival()
    if answer.error is not None:
        raise answer.error
    return answer.tail


class _Answer:
    """What the server says to a step. The event loop reads it when it comes, whoever may still wait for it.

    Attributes:
        tail: the length of the run's tail, or None.
        error: what went wrong, or None.
    """

    __slots__ = ("_arrived", "_loop", "_pgconn", "_socket", "_timer", "_waiter", "error", "tail")

    def __init__(self, pgconn: PGconn, within: float) -> None:
        self._pgconn = pgconn
        self._socket = pgconn.socket
        self._loop = loop = asyncio.get_running_loop()
        self._arrived = False
        self._waiter: asyncio.Future[None] | None = None
        self.tail: int | None = None
        self.error: Exception | None = None
        self._timer = loop.call_later(within, self._give_up)
        loop.add_reader(self._socket, self._read)
        self._send()

    async def arrival(self) -> None:
        """Return, or go on with being cancelled, when all of it is there."""
        cancelled: asyncio.CancelledError | None = None
        while not self._arrived:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled

    def _send(self) -> None:
        """Send what is not yet on its way."""
        try:
            if self._pgconn.flush():
                self._loop.add_writer(self._socket, self._send)
            else:
                self._loop.remove_writer(self._socket)
        except psycopg.Error as error:
            self._end(error)

    def _read(self) -> None:
        """Take what is there."""
        pgconn = self._pgconn
        try:
            pgconn.consume_input()
            while not pgconn.is_busy():
                result = pgconn.get_result()
                if result is None:
                    return self._end(self.error)
                if result.status != ExecStatus.TUPLES_OK:
                    self.error = self.error or _error(pgconn, result)
                elif result.ntuples:
                    (self.tail,) = _small.unpack(result.get_value(0, 0) or b"")
        except psycopg.Error as error:
            self._end(error)

    def _give_up(self) -> None:
        self._end(TimeoutError())
        self._pgconn.finish()  # what comes later is the answer to nothing

    def _end(self, error: Exception | None) -> None:
        self._timer.cancel()
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self.error = error
        self._arrived = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


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
