"""Receives the notifications of other backends: a subscription to the store's channel, on a connection of its own."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import suppress

from cano_msgspec.ends import unpack_ids
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from cano_redis.packing import ask
from cano_redis.server import connection_to
from cano_redis.settings import Settings

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 2.0
TAG = 8
"""Bytes of a message that identify the backend; the rest has the ids of runs."""

logger = logging.getLogger("cano.redis")

_TROUBLE = (RedisError, OSError, TimeoutError)


class News:
    """Listens to a channel from `open` or `start` to `close`, and calls the watcher."""

    def __init__(self, settings: Settings, tag: bytes, channel: bytes) -> None:
        self._settings = settings
        self._tag = tag
        self._channel = channel
        self._tell: Callable[[str | None], None] | None = None
        self._connection: AbstractConnection | None = None
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Subscribe. Raise Redis's error if that fails."""
        await self._subscribe()
        self.start()

    def start(self) -> None:
        """Subscribe soon, and call the watcher with None when that is done, unless it listens already."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._listen(), name="cano-redis news")

    def watch(self, tell: Callable[[str | None], None]) -> None:
        """Call `tell` with the id of each run that another backend changed, or None if notifications may be lost."""
        self._tell = tell

    async def close(self) -> None:
        """Stop listening."""
        self._tell = None
        task, self._task = self._task, None
        if task is not None and not task.get_loop().is_closed():
            task.cancel()
            await asyncio.wait((task,))
            await self._drop()  # a task that is cancelled before its first step drops nothing

    async def _subscribe(self) -> None:
        connection = connection_to(self._settings)
        try:
            async with asyncio.timeout(self._settings.timeout):
                await connection.connect()  # type: ignore[no-untyped-call]  # redis-py leaves it out
                await ask(connection, "SUBSCRIBE", self._channel)
        except BaseException:
            await connection.disconnect()
            raise
        self._connection = connection

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*_TROUBLE):
                await connection.disconnect()

    async def _listen(self) -> None:
        pause = FIRST_PAUSE
        try:
            while True:
                try:
                    if self._connection is None:
                        await self._subscribe()
                        self._say(None)
                    pause = FIRST_PAUSE
                    await self._hear()
                except _TROUBLE:
                    await self._drop()
                await asyncio.sleep(pause * random.uniform(0.5, 1))
                pause = min(2 * pause, LONGEST_PAUSE)
        finally:
            await self._drop()

    async def _hear(self) -> None:
        """Pass on messages until the connection is lost. Without messages for `timeout` seconds, send a PING."""
        connection, asked = self._connection, False
        assert connection is not None
        while True:
            message = await connection.read_response(
                disable_decoding=True, timeout=self._settings.timeout, disconnect_on_error=False
            )
            if message is not None:
                asked = False
                if message[0] == b"message" and message[2][:TAG] != self._tag:
                    for run_id in unpack_ids(message[2][TAG:].decode(errors="replace")):
                        self._say(run_id)
            elif asked:
                return
            else:
                asked = True
                await connection.send_command("PING", check_health=False)

    def _say(self, run_id: str | None) -> None:
        if self._tell is None:
            return
        try:
            self._tell(run_id)
        except Exception:
            logger.exception("the change callback of the store %s raised", self._settings.place)
