"""The quickest way for the most frequent call, one step of one run: libpq itself, without a cursor in between.

Waiting for a cursor of psycopg's takes as long as all that the server does, the disk aside.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Any

import psycopg
from cano_msgspec.packing import LARGE
from psycopg.pq import DiagnosticField, ExecStatus
from psycopg.pq.abc import PGconn, PGresult

from cano_postgres.commits import Append
from cano_postgres.connection import Connection

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


def values(append: Append) -> list[bytes] | None:
    """What `step` tells the server of a commit; None where it must go the other way."""
    if not append.plain or append.size >= LARGE:
        return None
    run_id, token, expected, seq, state, at, mark, changes, weight = append.line
    big = _big.pack
    try:
        return [
            run_id.encode(), big(token), big(expected), big(seq), state.encode(), _real.pack(at), big(mark), changes,
            _small.pack(weight),
        ]  # fmt: skip
    except (struct.error, UnicodeError):
        return None  # the other way has the words for what is wrong


async def step(connection: Connection, values: list[bytes]) -> int | None:
    """Make a commit: the length of the run's tail, or None where it is stale.

    Raises:
        psycopg.Error: something went wrong, and it is not made; or nobody knows, if the connection is lost.
    """
    pgconn = connection.pgconn
    loop, socket = asyncio.get_running_loop(), pgconn.socket
    pgconn.send_query_prepared(b"cano_step", values, _BINARY, result_format=1)
    while pgconn.flush():
        await _until(loop.add_writer, loop.remove_writer, socket)
    while True:
        await _until(loop.add_reader, loop.remove_reader, socket)
        pgconn.consume_input()
        if not pgconn.is_busy():
            break
    tail = None
    failure: psycopg.Error | None = None
    while (result := pgconn.get_result()) is not None:
        if result.status != ExecStatus.TUPLES_OK:
            failure = failure or _error(pgconn, result)
        elif result.ntuples:
            (tail,) = _small.unpack(result.get_value(0, 0) or b"")
    if failure is not None:
        raise failure
    return tail


async def _until(add: Callable[..., Any], remove: Callable[[int], Any], socket: int) -> None:
    """Return when the socket is ready, as the event loop says."""
    ready = asyncio.get_running_loop().create_future()
    add(socket, _set, ready)
    try:
        await ready
    finally:
        remove(socket)


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


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
