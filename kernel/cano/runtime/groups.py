"""Takes back the cancellations that a failed `asyncio.TaskGroup` leaves behind, as Python 3.13 does itself.

Otherwise a task that handles the failure of a group would look as if it had swallowed a cancellation from outside.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Generator
from types import CoroutineType
from typing import Any


class _TakingBack:
    """Awaits the work of an asyncio task. If a group in it cancels the task, that does not count as cancelled."""

    __slots__ = ("_task", "_work")

    def __init__(self, work: Any, task: asyncio.Task[Any]) -> None:
        self._work = work
        self._task = task

    def __await__(self) -> Generator[Any, Any, Any]:
        return self  # type: ignore[return-value]  # an iterator with `throw` and `close` is enough

    def __next__(self) -> Any:
        return self._work.send(None)

    def throw(self, *error: Any) -> Any:
        """Raise an exception in the work: that of a future that it awaits, or a cancellation."""
        innermost = self._work
        while isinstance(inner := innermost.cr_await, CoroutineType):
            innermost = inner
        if innermost.cr_code is asyncio.TaskGroup.__aexit__.__code__:
            group = innermost.cr_frame.f_locals["self"]
            if group._parent_cancel_requested:
                group._parent_cancel_requested = False  # the group has read that already
                self._task.uncancel()
        return self._work.throw(*error)

    def close(self) -> None:
        """Close the work."""
        self._work.close()


def _as_it_is(work: Any, task: Any) -> Any:
    return work


taking_back: Callable[[Any, Any], Awaitable[Any]] = _TakingBack if sys.version_info < (3, 13) else _as_it_is
"""Return an awaitable for the work of an asyncio task that takes back the cancellations of its failed groups."""
