"""Ends the runs and background tasks of a kernel that closes."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from cano.protocols import Clock
from cano.records import RunStatus
from cano.runtime.deadline import TEARDOWN_GRACE
from cano.runtime.teardown import reap, run_in, with_timeout

if TYPE_CHECKING:
    from cano.engine.run import Run


async def finish_all(runs: Iterable[Run], tasks: Iterable[asyncio.Task[Any]], grace: float, clock: Clock) -> None:
    """Call `finish` in each event loop that executes some of `runs` and `tasks`."""
    here = asyncio.get_running_loop()
    work: dict[asyncio.AbstractEventLoop, tuple[list[Run], list[asyncio.Task[Any]]]] = {here: ([], [])}
    for run in runs:
        work.setdefault(run.loop or here, ([], []))[0].append(run)
    for task in tasks:
        work.setdefault(task.get_loop(), ([], []))[1].append(task)
    await asyncio.gather(*(run_in(loop, partial(finish, *parts, grace, clock)) for loop, parts in work.items()))


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
    tasks = [task for task in tasks if not task.get_loop().is_closed()]
    if tasks:  # some read the store for parked runs; a store that hangs must not block this
        with suppress(TimeoutError, RuntimeError):  # the event loop of a task is closed just now
            await with_timeout(asyncio.wait(tasks), clock, TEARDOWN_GRACE)
        await reap(tasks, clock)


async def _all_ended(runs: Collection[Run]) -> None:
    for run in runs:
        await run.ended()
