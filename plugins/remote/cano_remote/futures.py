"""An executor on any `concurrent.futures.Executor`."""

from __future__ import annotations

import asyncio
import concurrent.futures
from typing import Any

from cano import Call, ConfigurationError, ExecutorUnavailableError, WorkerLostError


class FuturesExecutor:
    """Executes calls in a pool of `concurrent.futures`, which its maker shuts down.

    A call that was cancelled before it began does not begin. One that has begun cannot be stopped.

    Args:
        pool: the pool, such as a `ProcessPoolExecutor`. The standard library cannot use one any more after one of its
            processes was killed; `process://` can.

    Raises:
        ConfigurationError: it is not a pool.
    """

    remote = True
    abandons = True
    resources: frozenset[str] = frozenset()

    def __init__(self, pool: concurrent.futures.Executor) -> None:
        if not isinstance(pool, concurrent.futures.Executor):
            raise ConfigurationError(f"pool must be a concurrent.futures.Executor, not {pool!r}")
        self._pool = pool

    async def submit(self, call: Call) -> Any:
        """See `Executor.submit`. The pool has no priorities."""
        try:
            future = self._pool.submit(call.function, *call.args)
        except RuntimeError as error:  # a broken pool's error is one, too
            raise ExecutorUnavailableError(f"the pool {self._pool!r} takes no calls any more: {error}") from error
        try:
            return await asyncio.wrap_future(future)
        except concurrent.futures.BrokenExecutor as error:
            raise WorkerLostError(f"a process of the pool {self._pool!r} ended: {error}") from error
