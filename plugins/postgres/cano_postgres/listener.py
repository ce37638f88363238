"""Receives the notifications of other backends, on a connection of its own."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from psycopg import sql

from cano_postgres.connection import Connection, connect
from cano_postgres.notices import sender, told
from cano_postgres.settings import Settings

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0
_log = logging.getLogger("cano.postgres")


class Listener:
    """Listens from `start` to `close`, and calls the watcher."""

    def __init__(self, settings: Settings, key: int, channel: str | None = None) -> None:
        self._settings = settings
        self._channel = settings.schema if channel is None else channel
        self._own = sender(key)
        self._tell: Callable[[str | None], None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._connection: Connection | None = None

    async def start(self) -> None:
        """Start to listen.

        Raises:
            psycopg.Error: the server cannot be reached.
        """
        await self._connect()
        self.live()

    def live(self) -> None:
        """Listen in the background. If it is not connected, it connects."""
        self._task = asyncio.create_task(self._live(), name="cano-postgres listener")

    def watch(self, tell: Callable[[str | None], None]) -> None:
        """Call `tell` from now on."""
        self._tell = tell

    async def close(self) -> None:
        """Stop listening."""
        self._tell = None
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
        await self._disconnect()

    async def _connect(self) -> None:
        self._connection = await connect(self._settings, Connection)
        await self._connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))

    async def _disconnect(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def _live(self) -> None:
        pause = _SHORTEST_PAUSE
        while True:
            try:
                if self._connection is None:
                    await self._connect()
                    self._say(None)  # notifications may have been lost meanwhile
                pause = _SHORTEST_PAUSE
                await self._hear()
            except Exception as error:  # noqa: BLE001  # kernels poll meanwhile, and this tries again
                _log.info("no notifications from %s: %s; retrying", self._settings.label, error)
            await self._disconnect()
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _hear(self) -> None:
        assert self._connection is not None
        async for notice in self._connection.notifies():
            for run_id in told(notice.payload, self._own):
                self._say(run_id)

    def _say(self, run_id: str | None) -> None:
        if self._tell is not None:
            try:
                self._tell(run_id)
            except Exception:  # noqa: BLE001  # it is logged, and notifications continue
                _log.exception("the change callback of the store %s raised", self._settings.label)
