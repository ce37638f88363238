"""Awaits a store's answer despite cancellation, and work that holds leases before the store is closed."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from cano import Clock

R = TypeVar("R")

GRACE = 1.0
"""Seconds for which a cancelled caller still waits for the store's answer."""


async def despite_cancellation(work: Coroutine[Any, Any, R], clock: Clock) -> R | None:
    """Await `work` even if this call is cancelled. Return None if the work takes longer than `GRACE`.

    Raises:
        asyncio.CancelledError: this call was cancelled. The work has ended all the same, or was cancelled, too.
    """
    task = asyncio.ensure_future(work)
    task.add_done_callback(_retrieve)
    timeout = asyncio.ensure_future(clock.sleep(GRACE))
    cancelled: asyncio.CancelledError | None = None
    try:
        while not task.done() and not timeout.done():
            try:
                await asyncio.wait({task, timeout}, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError as error:
                cancelled = error
        task.cancel()
        await asyncio.wait({task}, timeout=0)
        if cancelled is not None:
            raise cancelled
        return task.result() if task.done() and not task.cancelled() else None
    finally:
        timeout.cancel()


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Let asyncio not report the exception of work that its caller no longer awaits."""
    if not task.cancelled():
        task.exception()


async def cancelled(task: asyncio.Task[None] | None) -> None:
    """Cancel a background task, and wait for its end. One whose event loop has ended is done."""
    if task is not None and not task.done():
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Holding:
    """The work under way that may hold a lease of a run that is not executed: `with holding: …`, in any thread."""

    def __init__(self) -> None:
        self._under_way: list[None] = []
        self._ended: Future[None] | None = None

    def __enter__(self) -> None:
        self._under_way.append(None)

    def __exit__(self, *error: object) -> None:
        self._under_way.pop()
        if self._ended is not None and not self._under_way and not self._ended.done():
            self._ended.set_result(None)

    async def ended(self, clock: Clock) -> None:
        """Wait until no such work is under way, but at most `GRACE`."""
        ended: Future[None] = Future()
        self._ended = ended
        if self._under_way:
            await despite_cancellation(_done(ended), clock)


async def _done(future: Future[None]) -> None:
    await asyncio.wrap_future(future)
