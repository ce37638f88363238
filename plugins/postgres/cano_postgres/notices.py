"""Notifications between backends: these runs may continue, or have ended.

PostgreSQL commits transactions with notifications one after the other, and wakes all listeners for each. So a batch has
one notification for many runs, and that of a run's end is sent apart from its commit: only callers that wait for the
run need it.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, LiteralString

from cano import StoreError

from cano_postgres.arrays import texts
from cano_postgres.connection import Connection

_TELL = "SELECT pg_notify(%s, notice) FROM unnest(%s::text[]) AS notice"
_LONGEST = 7_900
"""The most bytes of a notification; PostgreSQL allows less than 8,000."""
GAP = 0.05
"""Seconds between two notifications of ends."""
_LAST = 1.0
"""Seconds that closing waits for the last one."""
_log = logging.getLogger("cano.postgres")


def sender(key: int) -> str:
    """Return the prefix of the notifications of the backend with this key."""
    return f"{key & 0xFFFFFFFFFFFFFFFF:016x}"


def telling(schema: str, sender: str, run_ids: Sequence[str]) -> tuple[LiteralString, Sequence[Any]]:
    """Return the statement that notifies other backends of runs when its transaction commits."""
    notices: list[str] = []
    some: list[str] = []
    size = 0
    for run_id in run_ids:
        text = json.dumps(run_id, ensure_ascii=False)
        length = len(text.encode()) + 1
        if length + 18 > _LONGEST:  # then it is of any run
            notices.append(f"{sender}[]")
            continue
        if size + length + 18 > _LONGEST:
            notices.append(f"{sender}[{','.join(some)}]")
            some, size = [], 0
        some.append(text)
        size += length
    return _TELL, (schema, texts([*notices, f"{sender}[{','.join(some)}]"] if some else notices))


def told(notice: str, sender: str) -> Sequence[str | None]:
    """Return the ids of the runs in a notification of another backend, None for any run; empty for this backend's."""
    return () if notice.startswith(sender) else json.loads(notice[len(sender) :]) or (None,)


class Ends:
    """Notifies other backends of the runs that have ended or are parked, in one notification for many.

    The first one is sent at once, and the next `GAP` seconds later. If this process dies meanwhile, they are not sent.

    Args:
        schema: the name of the schema, which is also that of the notification channel.
        key: the writer's key.
        ask: executes a statement on a connection; see `Reader.ask`.
    """

    def __init__(self, schema: str, key: int, ask: Callable[..., Awaitable[None]]) -> None:
        self._channel = schema
        self._sender = sender(key)
        self._ask = ask
        self._ended: list[str] = []
        self._task: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    def add(self, run_id: str) -> None:
        """Notify other backends of this run soon."""
        self._ended.append(run_id)
        if self._task is None:
            self._task = asyncio.create_task(self._live(), name="cano-postgres ends")

    async def close(self) -> None:
        """Send what has not been sent, unless the server does not answer."""
        self._closing.set()
        if (task := self._task) is not None:
            await asyncio.wait((task,), timeout=_LAST)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _live(self) -> None:
        while self._ended:
            ended, self._ended = self._ended, []
            try:
                await self._ask(_tell, *telling(self._channel, self._sender, ended))
            except StoreError as error:  # kernels poll
                _log.info("other processes were not notified of runs that ended: %s", error)
            with suppress(TimeoutError):
                async with asyncio.timeout(GAP):
                    await self._closing.wait()
        self._task = None


async def _tell(connection: Connection, text: LiteralString, values: Sequence[Any]) -> None:
    await connection.execute(text, values)
