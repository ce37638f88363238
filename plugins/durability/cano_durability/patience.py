"""Awaiting a store's answer despite cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from cano import Clock

R = TypeVar("R")

GRACE = 1.0
"""Seconds that a store gets to answer a caller that was cancelled."""


async def despite_cancellation(work: Coroutine[Any, Any, R], clock: Clock) -> R | None:
    """Await `work` even if this is cancelled meanwhile. Return None if it takes longer than `GRACE`.

    Raises:
        asyncio.CancelledError: this was cancelled meanwhile. The work has ended all the same, or was given up.
    """
    task = asyncio.ensure_future(work)
    patience = asyncio.ensure_future(clock.sleep(GRACE))
    cancelled: asyncio.CancelledError | None = None
    try:
        while not task.done() and not patience.done():
            try:
                await asyncio.wait({task, patience}, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError as error:
                cancelled = error
        task.cancel()
        await asyncio.wait({task}, timeout=0)
        if cancelled is not None:
            raise cancelled
        return task.result() if task.done() and not task.cancelled() else None
    finally:
        patience.cancel()
        if task.done() and not task.cancelled():
            task.exception()
