"""Notifications between the backends of a store on a server: their ids as text, and those of ends many at a time."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

GAP = 0.05
"""Seconds between two notifications of ends."""
_LAST = 1.0
"""Seconds that closing waits for the last one."""


def pack_ids(run_ids: Sequence[str]) -> str:
    """Return the text of a notification of these runs; of none, it is one of any run."""
    return json.dumps(run_ids, ensure_ascii=False, separators=(",", ":"))


def unpack_ids(notice: str) -> Sequence[str | None]:
    """Return the ids in a notification; None for any run, also if another program or version sent it."""
    with suppress(ValueError, RecursionError):
        found = json.loads(notice)  # an earlier version sent the id itself, such as 17
        if isinstance(found, list) and found and all(isinstance(run_id, str) for run_id in found):
            return found
    return (None,)


class Ends:
    """Notifies other backends of the runs that have ended or are parked, in one notification for many.

    The first one is sent at once, and the next `GAP` seconds later. If this process dies meanwhile, they are not sent.

    Args:
        send: sends the ids of some runs.
        log: gets a line if that fails.
    """

    def __init__(self, send: Callable[[Sequence[str]], Awaitable[object]], log: logging.Logger) -> None:
        self._send = send
        self._log = log
        self._ended: list[str] = []
        self._task: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    def add(self, run_id: str) -> None:
        """Notify other backends of this run soon."""
        self._ended.append(run_id)
        if self._task is None:
            self._task = asyncio.create_task(self._live(), name="cano ends")

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
                await self._send(ended)
            except Exception as error:  # noqa: BLE001  # kernels poll, and the next ones are sent
                self._log.info("other processes were not notified of runs that ended: %s", error)
            with suppress(TimeoutError):
                async with asyncio.timeout(GAP):
                    await self._closing.wait()
        self._task = None
