"""Concurrency limits at run time: slots, and the runs that wait for one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from cano.engine.step import current_step, location_of
from cano.errors import TaskError
from cano.model.limits import Limit
from cano.safe_text import safe_repr


class Limiter:
    """The slots of one `Limit` in one kernel, granted in the order of the requests."""

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._slots: dict[Any, tuple[asyncio.Semaphore, set[object]]] = {}

    @asynccontextmanager
    async def slot(self, store: Any) -> AsyncIterator[None]:
        """Acquire a slot, and hold it in the `with` block. Raises TaskError if the limit's key has no value."""
        try:
            value = self._limit.value(store)
            hash(value)
        except Exception as error:
            message = f"limit_key {self._limit.key!r} has no hashable value: {safe_repr(error)}"
            raise TaskError(message, **location_of(current_step())) from error
        semaphore, users = self._slots.setdefault(value, (asyncio.Semaphore(self._limit.limit), set()))
        user = object()
        users.add(user)
        try:
            async with semaphore:
                yield
        finally:
            users.discard(user)
            if not users:
                self._slots.pop(value, None)  # a value that no run uses costs no memory


@asynccontextmanager
async def slots(limiters: Sequence[Limiter], store: Any) -> AsyncIterator[None]:
    """Acquire a slot of every limiter, in their order, and hold them in the `with` block."""
    async with AsyncExitStack() as stack:
        for limiter in limiters:
            await stack.enter_async_context(limiter.slot(store))
        yield
