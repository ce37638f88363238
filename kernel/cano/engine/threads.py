"""Worker threads, which execute plain functions with a copy of the context."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

from cano.protocols import Clock

MAX_WORKERS = 64


class Threads:
    """The worker threads of one kernel. The first one starts with the first plain function."""

    def __init__(self, clock: Clock) -> None:
        # virtual time must not pass while a thread works
        self._hold = getattr(clock, "hold", nullcontext)
        self._pool: ThreadPoolExecutor | None = None

    def wrap(
        self, function: Callable[[Any], Any], prepare: Callable[[contextvars.Context], None]
    ) -> Callable[[Any], Coroutine[Any, Any, Any]]:
        """Return an async function that calls `function` in a thread. Cancelling it does not stop the thread.

        `prepare` is called with the thread's context before the thread starts.
        """

        def guarded(context: contextvars.Context, store: Any) -> tuple[Any, BaseException | None]:
            # an asyncio future cannot raise StopIteration, and converts TimeoutError and CancelledError
            try:
                return context.run(function, store), None
            except BaseException as error:  # noqa: BLE001  # raised again in the event loop
                return None, error

        async def call(store: Any) -> Any:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(MAX_WORKERS, thread_name_prefix="cano")
            context = contextvars.copy_context()
            prepare(context)
            with self._hold():
                result, error = await asyncio.get_running_loop().run_in_executor(self._pool, guarded, context, store)
            if error is None:
                return result
            try:
                if isinstance(error, StopIteration):
                    raise RuntimeError("the task raised StopIteration") from error
                raise error
            finally:
                del error  # its traceback holds this frame

        return call

    def abandon(self) -> None:
        """Drop the pool of a thread that is no longer awaited, so that it takes no worker from other calls."""
        self.close()

    def close(self) -> None:
        """Close the pool without waiting for its threads."""
        if self._pool is not None:
            self._pool.shutdown(wait=False)
            self._pool = None
