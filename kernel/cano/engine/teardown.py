"""Ending asyncio tasks that are no longer wanted: cancelled, and awaited."""

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


async def within(work: Coroutine[Any, Any, R], clock: Clock, seconds: float) -> R:
    """The result of `work`. Raises TimeoutError, with the work cancelled, if it takes longer than `seconds`."""
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
    """Wait `grace` seconds for `runs` to end, then interrupt those that have not; end the other `tasks` too."""
    ended = asyncio.ensure_future(_all_ended(runs))
    patience = asyncio.ensure_future(clock.sleep(grace))
    try:
        await asyncio.wait({ended, patience}, return_when=asyncio.FIRST_COMPLETED)
        for run in runs:
            run.stop(RunStatus.INTERRUPTED)
        await ended
    finally:
        ended.cancel()
        patience.cancel()
        await asyncio.gather(ended, patience, return_exceptions=True)
    if tasks:  # what looks into the store for parked runs; a store that hangs does not hold this up
        with suppress(TimeoutError):
            await within(_all_done(tasks), clock, TEARDOWN_GRACE)
        await reap(tasks, clock)


async def _all_ended(runs: Collection[Run]) -> None:
    for run in runs:
        await run.ended()


async def _all_done(tasks: Collection[asyncio.Task[Any]]) -> None:
    await asyncio.wait(tasks)


async def reap(tasks: Collection[asyncio.Task[Any]], clock: Clock) -> None:
    """Cancel `tasks` and return when all have ended; one whose clean-up hangs is cancelled again.

    Raises:
        asyncio.CancelledError: this was cancelled meanwhile; the tasks have ended all the same.
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
