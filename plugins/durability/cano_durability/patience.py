"""Awaits a store's answer despite cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
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
