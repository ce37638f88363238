"""Cancels asyncio tasks and awaits their end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from cano.engine.deadline import TEARDOWN_GRACE
from cano.protocols import Clock, Timer
from cano.records import RunStatus

if TYPE_CHECKING:
    from cano.engine.run import Run

R = TypeVar("R")

POLL = 0.05
"""Seconds between two looks at whether an event loop in another thread has ended."""


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


async def finish_all(runs: Iterable[Run], tasks: Iterable[asyncio.Task[Any]], grace: float, clock: Clock) -> None:
    """Call `finish` in each event loop that executes some of `runs` and `tasks`."""
    here = asyncio.get_running_loop()
    work: dict[asyncio.AbstractEventLoop, tuple[list[Run], list[asyncio.Task[Any]]]] = {here: ([], [])}
    for run in runs:
        work.setdefault(run.loop or here, ([], []))[0].append(run)
    for task in tasks:
        work.setdefault(task.get_loop(), ([], []))[1].append(task)
    await asyncio.gather(*(run_in(loop, partial(finish, *parts, grace, clock)) for loop, parts in work.items()))


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
