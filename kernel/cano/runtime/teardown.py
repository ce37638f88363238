"""Cancels asyncio tasks and awaits their end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from typing import Any, TypeVar

from cano.protocols import Clock, Timer
from cano.runtime.deadline import TEARDOWN_GRACE

R = TypeVar("R")

POLL = 0.05
"""Seconds between two looks at whether an event loop in another thread has ended."""


async def with_timeout(work: Coroutine[Any, Any, R], clock: Clock, seconds: float) -> R:
    """Await `work` and return its result. After `seconds`, cancel it and raise TimeoutError.

    If this call is cancelled when the work is already done, it returns the result, and the caller's next `await` raises
    the cancellation.
    """
    task, caller = asyncio.ensure_future(work), asyncio.current_task()
    timer = clock.call_at(clock.monotonic() + seconds, task.cancel)
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        if caller is None or not task.done():
            raise
        caller.uncancel()
        caller.cancel()
    finally:
        timer.cancel()
        await reap([task], clock)
    if task.cancelled():
        raise TimeoutError
    return task.result()


async def run_in(loop: asyncio.AbstractEventLoop | None, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Do `work` in `loop`, which may run in another thread; or here, if that one has ended or does meanwhile."""
    if loop is not None and loop is not asyncio.get_running_loop() and loop.is_running():
        coroutine = work()
        try:
            done = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, loop))
        except RuntimeError:  # it was closed just now
            coroutine.close()
        else:
            while not done.done() and not loop.is_closed():
                await asyncio.wait({done}, timeout=POLL)  # an event loop that ends drops its callbacks
            if done.done() and not done.cancelled():
                return done.result()
    await work()


async def reap(tasks: Collection[asyncio.Task[Any]], clock: Clock) -> None:
    """Cancel `tasks` and wait until all have ended. A task that has not is cancelled again every `TEARDOWN_GRACE`.

    Raises:
        asyncio.CancelledError: this call was cancelled; the tasks have ended all the same.
    """
    pending = [task for task in tasks if not task.done()]
    if not pending:
        return
    cancelled: asyncio.CancelledError | None = None
    timer: Timer | None = None

    def cancel_all() -> None:
        nonlocal timer
        for task in pending:
            if not task.done():
                task.cancel()
        timer = clock.call_at(clock.monotonic() + TEARDOWN_GRACE, cancel_all)

    cancel_all()
    try:
        while not all(task.done() for task in pending):
            try:
                await asyncio.wait(pending)
            except asyncio.CancelledError as error:
                cancelled = error
    finally:
        if timer is not None:
            timer.cancel()
    if cancelled is not None:
        raise cancelled
