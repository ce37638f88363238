"""Queries, on connections of a pool."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, Self, TypeVar

import psycopg
from cano import StoreUnavailableError
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from cano_postgres.connection import Connection, keywords, prepare_reader
from cano_postgres.failures import is_lost, is_worth_another_attempt, translated, unreachable
from cano_postgres.settings import Settings

R = TypeVar("R")

_LONGEST_PAUSE = 0.5


class Reader:
    """Does queries. If a connection breaks, they are repeated, since they change nothing.

    A cancelled caller withdraws while it waits for a slot. From then on a task of the reader awaits the driver. So the
    driver is never cancelled in the middle of a call, and the pool does not lose the connection.
    """

    def __init__(self, settings: Settings, closed: Callable[[], StoreUnavailableError]) -> None:
        self._settings = settings
        self._closed = closed
        self._closing = False
        self._slots = asyncio.Semaphore(settings.pool_size)
        self._under_way: set[asyncio.Task[Any]] = set()
        self._refusals: list[BaseException] = []
        self._pool = AsyncConnectionPool(
            connection_class=_noting_refusals(self._refusals),
            kwargs=keywords(settings),
            min_size=1,
            max_size=settings.pool_size,
            configure=self._configure,
            open=False,
            name="cano-postgres",
        )

    async def _configure(self, connection: AsyncConnection[Any]) -> None:
        await prepare_reader(connection, self._settings)
        self._refusals.clear()

    async def open(self) -> None:
        """Connect."""
        try:
            await self._pool.open(wait=True, timeout=max(self._settings.retry_for, 1.0))
        except PoolTimeout as error:
            raise self._no_connection(error) from error

    async def close(self) -> None:
        """Finish the queries under way, and disconnect. Queries that wait for a connection are refused."""
        self._closing = True
        await self._pool.close()
        while self._under_way:
            await asyncio.wait(self._under_way)

    async def ask(self, question: Callable[..., Awaitable[R]], *arguments: Any, run_id: str | None = None) -> R:
        """Return the result of `question(connection, *arguments)`.

        Raises:
            StoreUnavailableError: no connection was available for `retry_for` seconds.
            SerializationError: a stored row is corrupt.
        """
        if self._closing:
            raise self._closed()
        deadline = monotonic() + self._settings.retry_for
        try:
            await self._slot(deadline)
            task = asyncio.ensure_future(self._patiently(question, arguments, deadline))
            self._under_way.add(task)
            task.add_done_callback(self._answered)
            return await asyncio.shield(task)
        except StoreUnavailableError as error:
            error.run_id = run_id
            raise
        except (psycopg.Error, UnicodeError) as error:
            raise translated(error, self._settings.label, run_id) from error

    async def _slot(self, deadline: float) -> None:
        """Wait until fewer than `pool_size` questions are under way."""
        if not self._slots.locked():
            await self._slots.acquire()
            return
        try:
            async with asyncio.timeout(max(deadline - monotonic(), 0.1)):
                await self._slots.acquire()
        except TimeoutError as error:
            raise self._no_connection(error) from error

    def _answered(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        self._slots.release()
        if not task.cancelled():
            task.exception()  # or asyncio would report it as never retrieved

    async def _patiently(self, question: Callable[..., Awaitable[R]], arguments: tuple[Any, ...], deadline: float) -> R:
        patience = self._settings.retry_for
        pause = 0.01
        while True:
            connection: Connection | None = None
            try:
                async with self._pool.connection(timeout=max(deadline - monotonic(), 0.1)) as connection:
                    return await question(connection, *arguments)
            except PoolClosed as error:
                raise self._closed() from error
            except PoolTimeout as error:
                raise self._no_connection(error) from error
            except psycopg.Error as error:
                lost = connection is not None and is_lost(error, connection)
                if not lost and not is_worth_another_attempt(error):
                    raise
                if self._closing or monotonic() >= deadline:
                    raise unreachable(error, self._settings.label, patience) from error
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _no_connection(self, error: BaseException) -> StoreUnavailableError:
        """Return the error: the server refuses connections, or all of the pool are busy."""
        settings = self._settings
        if self._refusals:
            return unreachable(self._refusals[-1], settings.label, settings.retry_for)
        return StoreUnavailableError(
            f"the store {settings.label} could not be read for {settings.retry_for:g} seconds: its "
            f"{settings.pool_size} reading connections are busy; raise pool_size ({error})"
        )


def _noting_refusals(refusals: list[BaseException]) -> type[AsyncConnection[Any]]:
    """Return a class of connections that records the last connection error, which the pool does not report."""

    class Noting(AsyncConnection[Any]):
        @classmethod
        async def connect(cls, conninfo: str = "", **options: Any) -> Self:
            try:
                return await super().connect(conninfo, **options)
            except psycopg.Error as error:
                refusals[:] = [error]
                raise

    return Noting
