"""Cancels asyncio tasks and awaits their end."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from cano.engine.deadline import TEARDOWN_GRACE
from cano.protocols import Clock, Timer
from cano.records import RunStatus

if TYPE_CHECKING:
    from cano.engine.run import Run

R = TypeVar("R")


async def with_timeout(work: Coroutine[Any, Any, R], clock: Clock, seconds: float) -> R:
    """Await `work` and return its result. After `seconds`, cancel it and raise TimeoutError."""
    task = asyncio.ensure_future(work)
    timer = clock.call_at(clock.monotonic() + seconds, task.cancel)
    try:
        await asyncio.wait({task})
    finally:
        timer.cancel()
        await reap([task], clock)
    if task.cancelled():
        raise TimeoutError
    return task.result()


async def finish(runs: Collection[Run], tasks: Collection[asyncio.Task[Any]], grace: float, clock: Clock) -> None:
    """Wait `grace` seconds for `runs` to end, then interrupt the others. Finally end the background `tasks`."""
    ended = asyncio.ensure_future(_all_ended(runs))
    timeout = asyncio.ensure_future(clock.sleep(grace))
    try:
        await asyncio.wait({ended, timeout}, return_when=asyncio.FIRST_COMPLETED)
        for run in runs:
            run.stop(RunStatus.INTERRUPTED)
        await ended
    finally:
        ended.cancel()
        timeout.cancel()
        await asyncio.gather(ended, timeout, return_exceptions=True)
    if tasks:  # some read the store for parked runs; a store that hangs must not block this
        with suppress(TimeoutError):
            await with_timeout(_all_done(tasks), clock, TEARDOWN_GRACE)
        await reap(tasks, clock)


async def _all_ended(runs: Collection[Run]) -> None:
    for run in runs:
        await run.ended()


async def _all_done(tasks: Collection[asyncio.Task[Any]]) -> None:
    await asyncio.wait(tasks)


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
