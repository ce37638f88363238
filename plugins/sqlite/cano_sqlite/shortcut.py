"""The shortcut of a lone commit: the event loop's own thread makes it, where nobody is kept waiting by that.

The way to the writer's thread and back takes as long as half of what a good disk needs for a commit. It is worth that
wherever the event loop has something else to do meanwhile, or several runs share one sync to disk.
"""

from __future__ import annotations

import asyncio
from typing import Any

from cano_sqlite.journal import Append
from cano_sqlite.worker import Worker
from cano_sqlite.writer import Writer

HORIZON = 0.02
"""Seconds for which the event loop must have nothing to do."""

MOST = 100
"""How many commits in a row take it, before one goes the long way: the loop turns then, and the log is tidied up."""


class Shortcut:
    """Takes commits past the thread of `worker`, to its hand `writer`."""

    def __init__(self, worker: Worker, writer: Writer) -> None:
        self._worker = worker
        self._writer = writer
        self._count = 0

    def take(self, append: Append) -> bool:
        """Make a commit now, if that is short and in nobody's way; whether it is made.

        Raises:
            StoreError: something went wrong, and it is not made.
        """
        if (
            self._worker.busy
            or self._count >= MOST
            or not append.plain
            or append.folds
            or not has_time(asyncio.get_running_loop())
            or not self._worker.borrow()
        ):
            self._count = 0
            return False
        self._count += 1
        try:
            return self._writer.step(append)
        finally:
            self._worker.give_back()


def has_time(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether `loop` would only wait, for `HORIZON` at least: it has no callback, no timer and no socket to look after.

    What other threads hand it meanwhile waits until it is asked again. A loop that is not asyncio's own has no time.
    """
    own: Any = loop  # asyncio has no public name for any of this
    try:
        timers = own._scheduled
        return (
            not own._ready
            and len(own._selector.get_map()) == 1  # the pipe by which other threads wake it
            and (not timers or timers[0]._when - own.time() > HORIZON)
        )
    except AttributeError:
        return False
