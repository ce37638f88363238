"""Takes back the cancellations that a failed `asyncio.TaskGroup` leaves behind, as Python 3.13 does itself.

Otherwise a task that handles the failure of a group would look as if it had swallowed a cancellation from outside.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable, Generator
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

_ENDING = ("__aexit__", "_aexit")  # since Python 3.12.8, the first one awaits the second one
_EXITS = {function.__code__ for name in _ENDING if (function := vars(asyncio.TaskGroup).get(name)) is not None}
_WORK: tuple[type, ...] = (CoroutineType, AsyncGeneratorType, GeneratorType)
_ITERATORS = ("coroutine_wrapper", "async_generator_asend", "async_generator_athrow")
"""Types of iterators over the steps of a coroutine (as of an `__await__`) or a generator; no reference is public."""


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
        innermost: Any = None
        inner = self._work
        while isinstance(inner, _WORK):
            innermost = inner if isinstance(inner, CoroutineType) else innermost
            inner = _awaited(inner)
        if getattr(innermost, "cr_code", None) in _EXITS:
            names = innermost.cr_frame.f_locals
            group = names["self"]
            # if its body has raised, as by the group's cancellation, the group has taken that back itself
            if group._parent_cancel_requested and names["et"] is None:
                group._parent_cancel_requested = False  # the group has read that already
                self._task.uncancel()
        return self._work.throw(*error)

    def close(self) -> None:
        """Close the work."""
        self._work.close()


def _awaited(work: Any) -> Any:
    """Return what a coroutine or a generator awaits; in place of an iterator over another one's steps, that one."""
    inner = next(getattr(work, name) for name in ("cr_await", "ag_await", "gi_yieldfrom") if hasattr(work, name))
    if type(inner).__name__ in _ITERATORS:
        return next((each for each in gc.get_referents(inner) if isinstance(each, _WORK)), None)
    return inner


def _as_it_is(work: Any, task: Any) -> Any:
    return work


taking_back: Callable[[Any, Any], Awaitable[Any]] = _TakingBack if sys.version_info < (3, 13) else _as_it_is
"""Return an awaitable for the work of an asyncio task that takes back the cancellations of its failed groups."""
