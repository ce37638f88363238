"""Waiting for what no event reports."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], bool]) -> None:
    """Let others run until the condition is true.

    Raises:
        TimeoutError: it was not true within 60 s.
    """
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110  # its purpose
            await asyncio.sleep(0)
