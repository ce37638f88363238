"""Keeping to a limit: who holds a place, and who waits for one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from cano.engine.attempts import place
from cano.engine.step import current_step
from cano.errors import TaskError
from cano.model.limits import Limit


class Limiter:
    """The places of one `Limit` in one kernel. First come, first served."""

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._places: dict[Any, tuple[asyncio.Semaphore, set[object]]] = {}

    @asynccontextmanager
    async def place(self, store: Any) -> AsyncIterator[None]:
        """Wait for a place, and hold it. Raises TaskError where the key's value cannot be had."""
        try:
            value = self._limit.value(store)
            hash(value)
        except Exception as error:
            message = f"limit_key {self._limit.key!r} gives no value to count by: {error!r}"
            raise TaskError(message, **place(current_step())) from error
        semaphore, users = self._places.setdefault(value, (asyncio.Semaphore(self._limit.limit), set()))
        user = object()
        users.add(user)
        try:
            async with semaphore:
                yield
        finally:
            users.discard(user)
            if not users:
                self._places.pop(value, None)  # nothing is kept for a key that nobody uses


@asynccontextmanager
async def places(limiters: Sequence[Limiter], store: Any) -> AsyncIterator[None]:
    """Hold a place of every limiter, taken in their order."""
    async with AsyncExitStack() as stack:
        for limiter in limiters:
            await stack.enter_async_context(limiter.place(store))
        yield
