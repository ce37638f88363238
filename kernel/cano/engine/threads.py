"""Plain functions run in worker threads, with the context copied."""

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
    """The worker threads of one kernel; none is started before the first plain function runs."""

    def __init__(self, clock: Clock) -> None:
        # a virtual clock must not let time pass while a thread works
        self._hold = getattr(clock, "hold", nullcontext)
        self._pool: ThreadPoolExecutor | None = None

    def wrap(self, function: Callable[[Any], Any]) -> Callable[[Any], Coroutine[Any, Any, Any]]:
        """An async form of `function`. Cancelling it abandons the thread: threads cannot be stopped."""

        def guarded(context: contextvars.Context, store: Any) -> tuple[Any, BaseException | None]:
            # asyncio's futures carry no StopIteration, and replace TimeoutError and CancelledError by their own
            try:
                return context.run(function, store), None
            except BaseException as error:  # noqa: BLE001  # raised again in the event loop
                return None, error

        async def call(store: Any) -> Any:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(MAX_WORKERS, thread_name_prefix="cano")
            context = contextvars.copy_context()
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
        """A thread was given up: leave its pool behind, so that it never takes a worker from others."""
        self.close()

    def close(self) -> None:
        """Start no more work; what is running ends by itself."""
        if self._pool is not None:
            self._pool.shutdown(wait=False)
            self._pool = None
