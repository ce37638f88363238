"""Transactions in which a task writes to the store's database, too. Each has a connection of its own meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any

import psycopg
from cano import Commit, Signal, StoreError, StoreUnavailableError
from cano_msgspec.packing import stale
from psycopg import AsyncConnection, AsyncCursor, sql
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from cano_postgres.arrays import texts
from cano_postgres.commits import WHERE_THEY_STAND, Append
from cano_postgres.connection import Connection, keywords, prepare
from cano_postgres.failures import translated, unkept, unreachable
from cano_postgres.notices import telling
from cano_postgres.settings import Settings
from cano_postgres.signals import ANSWERED, Put
from cano_postgres.work import Statement, carry_out

_LOCK_RUN = "SELECT seq, token, txid_current() FROM runs WHERE run_id = %s FOR UPDATE"
# LOCK, and at once what `settle` locks at the commit: of two transactions with another order, each would wait
_LOCK_ALL = """
    SELECT pg_advisory_xact_lock(key) FROM (
        SELECT DISTINCT hashtextextended(run_id, 0) AS key FROM (
            SELECT unnest(%s::text[]) AS run_id UNION ALL SELECT run_id FROM joined WHERE is_signal
        ) AS ids ORDER BY key OFFSET 0
    ) AS keys"""
_FATE = "SELECT txid_status(%s)"
_THEIRS = sql.SQL("SET LOCAL search_path TO DEFAULT")


class Transactions:
    """The transactions of one open store, and their connections.

    Args:
        settings: the store's settings.
        sender: the prefix of the store's notifications.
        committed: called after a commit, with the length of the run's tail.
        closed: makes the error of a closed store.
    """

    def __init__(
        self,
        settings: Settings,
        sender: str,
        committed: Callable[[Commit, int], Coroutine[Any, Any, None]],
        closed: Callable[[], StoreUnavailableError],
    ) -> None:
        self.settings = settings
        self.committed = committed
        self.sender = sender
        self.ours = sql.SQL("SET LOCAL search_path TO {}, pg_temp").format(sql.Identifier(settings.schema))
        self.number = sql.SQL("SELECT txid_current_if_assigned(), set_config('search_path', {}, true)").format(
            sql.Literal(f"{sql.Identifier(settings.schema).as_string(None)}, pg_temp")
        )
        self._refused = closed
        self._idle: list[Connection] = []
        self._closed = False

    async def begin(self, run_id: str, token: int, seq: int, timeout: float) -> Transaction:
        """See `TransactionalStore.begin`."""
        connection = await self._connection()
        opened = Transaction(self, connection, run_id, timeout)
        try:
            await opened.begin(token, seq)
        except BaseException as error:
            with suppress(asyncio.CancelledError):
                await opened.rollback()
            if isinstance(error, psycopg.Error):
                raise self.failed(error, run_id) from error
            raise
        return opened

    async def close(self) -> None:
        """Disconnect."""
        self._closed = True
        for connection in self._idle:
            await connection.close()

    async def put_back(self, connection: Connection) -> None:
        """Keep a connection for the next transaction, if it is good for one."""
        idle = not connection.closed and connection.info.transaction_status == TransactionStatus.IDLE
        if idle and not self._closed and len(self._idle) < self.settings.pool_size:
            _make_plain(connection)
            self._idle.append(connection)
        else:
            await connection.close()

    def failed(self, error: Exception, run_id: str) -> Exception:
        """Return the error that the caller gets."""
        return translated(error, self.settings.label, run_id)

    async def stands(self, run_id: str) -> tuple[int, int] | None:
        """Return seq and token of the run, after a transaction that has its row locked has ended."""
        connection = await self._connection()
        try:
            await connection.execute(sql.SQL("BEGIN; {}").format(self.ours), prepare=False)
            found: tuple[Any, ...] | None = await (await connection.execute(_LOCK_RUN, (run_id,))).fetchone()
            await connection.execute("ROLLBACK", prepare=False)
        finally:
            await self.put_back(connection)
        return None if found is None else (found[0], found[1])

    async def _connection(self) -> Connection:
        while self._idle and not self._closed:
            connection = self._idle.pop()
            if not connection.closed:
                return connection
        if self._closed:
            raise self._refused()
        try:
            connection = await AsyncConnection[tuple[Any, ...]].connect(**keywords(self.settings))
        except (psycopg.Error, OSError) as error:
            raise unreachable(error, self.settings.label) from error
        try:
            await prepare(connection, self.settings, sql.SQL("RESET search_path"))
            if self._closed:  # meanwhile
                raise self._refused()
        except BaseException:
            await connection.close()
            raise
        return connection


class Transaction:
    """An open transaction. See `StoreTransaction` for the methods.

    The task's statements have the search path that connections begin with; those of the store, the store's schema.

    Attributes:
        connection: the connection. The task must not end the transaction.
    """

    def __init__(self, owner: Transactions, connection: Connection, run_id: str, timeout: float) -> None:
        self.connection = connection
        self._owner = owner
        self._run_id = run_id
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._until = monotonic() + timeout
        self._timer: asyncio.TimerHandle | None = None
        self._ending: asyncio.Task[None] | None = None
        self._ended = "it has ended"
        self._signalled: list[str] = []
        self._number = 0

    async def begin(self, token: int, seq: int) -> None:
        milliseconds = max(1, int(self._timeout * 1000))
        limit = sql.SQL("SET LOCAL idle_in_transaction_session_timeout TO {}").format(sql.Literal(milliseconds))
        await self.connection.execute(sql.SQL("; ").join([sql.SQL("BEGIN"), limit, self._owner.ours]), prepare=False)
        found = await (await self.connection.execute(_LOCK_RUN, (self._run_id,))).fetchone()
        if found is None or found[:2] != (seq, token):
            raise stale(self._run_id, seq, token, found and found[:2])
        self._number = found[2]
        await self.connection.execute(_THEIRS, prepare=False)
        self._until = monotonic() + self._timeout  # it may have waited for another one
        self._timer = self._loop.call_later(self._timeout, self._expire)

    async def execute(
        self, statement: str, parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> Sequence[tuple[Any, ...]]:
        self._check()
        text: Any = statement
        try:
            cursor = await self.connection.execute(text, parameters or None, prepare=False)
        except psycopg.OperationalError:
            if self.connection.closed:
                self._check()  # the server has ended it, since it took too long
            raise
        if self.connection.info.transaction_status == TransactionStatus.IDLE:
            raise await self._over()  # before another statement is committed by itself
        return await cursor.fetchall() if cursor.description else []

    async def put_signal(self, run_id: str, signal: Signal) -> None:
        self._check()
        try:
            put = Put(run_id, signal).statements(again=False)
        except UnicodeError as error:
            raise unkept(error, run_id) from error
        await self._ours([(_LOCK_ALL, (texts([run_id]),)), *put, (ANSWERED, (texts([run_id]),))])
        self._signalled.append(run_id)

    async def commit(self, commit: Commit) -> None:
        self._check()
        try:
            append = Append(commit)
            tail = await self._applied(append)
            if tail is None:
                found = await self._ours([(WHERE_THEY_STAND, (texts([commit.run_id]),))])
                raise stale(commit.run_id, commit.expected_seq, commit.token, found[0][0][1:] if found[0] else None)
        except BaseException as error:
            with suppress(asyncio.CancelledError):
                await self.rollback()
            if isinstance(error, UnicodeError | psycopg.Error):
                raise self._owner.failed(error, commit.run_id) from error
            raise
        self._ending = self._loop.create_task(self._send(commit), name="cano-postgres commit")
        await self._wait(self._ending)
        self._ending.result()
        await self._owner.committed(commit, tail)

    async def rollback(self) -> None:
        if self._ending is None:
            self._ending = self._loop.create_task(self._roll_back(), name="cano-postgres rollback")
        await self._wait(self._ending)

    async def _applied(self, append: Append) -> int | None:
        """Apply a commit in the transaction."""
        made = list(append.statements(again=False))
        before: list[Statement] = [(_LOCK_ALL, (texts([append.run_id]),))] if append.awaits else []
        after: list[Statement] = [(ANSWERED, (texts([append.run_id]),))] if append.awaits else []
        if self._signalled:
            after.append(telling(self._owner.settings.schema, self._owner.sender, self._signalled))
        rows = await self._ours([*before, *made, *after])
        return append.outcome(rows[len(before) :], again=False)

    async def _ours(self, statements: Sequence[Statement]) -> Sequence[Sequence[tuple[Any, ...]]]:
        """Execute statements of the store. Raise StoreError if a statement of the task has ended the transaction."""
        if self.connection.info.transaction_status != TransactionStatus.INTRANS:
            raise await self._over()
        _make_plain(self.connection)
        cursor = await self.connection.execute(self._owner.number, prepare=False)
        ((number, _),) = await cursor.fetchall()
        if number != self._number:
            raise await self._over()
        rows = await carry_out(self.connection, statements)
        await self.connection.execute(_THEIRS, prepare=False)
        return rows

    async def _send(self, commit: Commit) -> None:
        """Commit. If the answer is lost, find out whether it was done."""
        try:
            await self.connection.execute("COMMIT", prepare=False)
        except Exception as error:
            await self.connection.close()
            if not isinstance(error, psycopg.OperationalError):
                raise self._refusal(str(error)) from error  # such as a deferred constraint of the user's tables
            try:
                applied = await self._owner.stands(self._run_id) == (commit.seq, commit.token)
            except (psycopg.Error, StoreUnavailableError) as problem:
                doubt = "the transaction may have been committed: load shows whether it was"
                raise StoreUnavailableError(f"{problem}; {doubt}", run_id=self._run_id) from error
            if not applied:
                raise self._owner.failed(error, self._run_id) from error
        finally:
            await self._end()

    async def _roll_back(self) -> None:
        try:
            if self.connection.info.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
                await self.connection.execute("ROLLBACK", prepare=False)
        except psycopg.Error:  # the connection is lost, which rolls it back
            await self.connection.close()
        finally:
            await self._end()

    async def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self._owner.put_back(self.connection)

    async def _wait(self, task: asyncio.Task[None]) -> None:
        cancelled: asyncio.CancelledError | None = None
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            if not task.cancelled():
                task.exception()  # so that asyncio does not report it as never retrieved
            raise cancelled

    def _expire(self) -> None:
        """Roll it back, since others wait for the run's row, and its lease is not renewed meanwhile."""
        if self._ending is None:
            self._ended = "it was rolled back, since it took longer than half of what was left of the lease, "
            self._ended += f"{self._timeout:.3g} s; do what takes long before it"
            self._ending = self._loop.create_task(self._roll_back(), name="cano-postgres rollback")

    def _check(self) -> None:
        if monotonic() > self._until:
            self._expire()  # the event loop was blocked
        if self._ending is not None:
            raise StoreError(
                f"the transaction of run {self._run_id} cannot be used: {self._ended}", run_id=self._run_id
            )

    async def _over(self) -> StoreError:
        """Return the error for a transaction that is not open or has failed, and roll back what the task has begun."""
        status = self.connection.info.transaction_status
        if status == TransactionStatus.UNKNOWN:
            return self._refusal("its connection is lost")
        if status != TransactionStatus.IDLE:
            await self.connection.execute("ROLLBACK", prepare=False)
        _make_plain(self.connection)
        ((fate,),) = await (await self.connection.execute(_FATE, (self._number,), prepare=False)).fetchall()
        if status == TransactionStatus.INERROR and fate != "committed":
            return self._refusal("a statement of the task failed, and the task caught the error; use a savepoint")
        first = "committed" if fate == "committed" else "rolled back"
        rest = "each statement by itself"
        if status != TransactionStatus.IDLE:
            rest = "but for the transaction that it began last, which is rolled back"
        problem = (
            f"a statement of the task ended it. What the task had executed in it is {first}; what it executed after "
            f"that is committed, {rest}; the step's data and transition are not committed. Leave COMMIT and ROLLBACK "
            "to the step; a savepoint undoes a part"
        )
        self._ended = problem
        if self._ending is None:
            self._ending = self._loop.create_task(self._roll_back(), name="cano-postgres rollback")
        return self._refusal(problem)

    def _refusal(self, problem: str) -> StoreError:
        run_id = self._run_id
        return StoreError(f"the transaction of run {run_id} cannot be committed: {problem}", run_id=run_id)


def _make_plain(connection: Connection) -> None:
    """Undo what the task has set for the results of queries."""
    connection.row_factory, connection.cursor_factory = tuple_row, AsyncCursor
