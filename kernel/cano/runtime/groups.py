"""Takes back the cancellations that a failed `asyncio.TaskGroup` leaves behind, as Python 3.13 does itself.

Otherwise a task that handles the failure of a group would look as if it had swallowed a cancellation from outside.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Awaitable, Coroutine
from itertools import islice
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, TypeVar

T = TypeVar("T")

_ENDING = ("__aexit__", "_aexit")  # since Python 3.12.8, the first one awaits the second one
_EXITS = {function.__code__ for name in _ENDING if (function := vars(asyncio.TaskGroup).get(name)) is not None}
_WORK: tuple[type, ...] = (CoroutineType, AsyncGeneratorType, GeneratorType)
_ITERATORS = ("coroutine_wrapper", "async_generator_asend", "async_generator_athrow")
"""Types of iterators over the steps of a coroutine (as of an `__await__`) or a generator; no reference is public."""


class _TakingBack(islice):  # type: ignore[type-arg]  # no subscript at run time
    """Awaits the work of an asyncio task. If a group in it cancels the task, that does not count as cancelled.

    It is an `islice` over all steps of the work, because that makes them without calling a Python function.
    """

    __slots__ = ("work",)
    work: Any
    __await__ = islice.__iter__

    def throw(self, *error: Any) -> Any:
        """Raise an exception in the work: that of a future that it awaits, or a cancellation."""
        innermost: Any = None
        inner = self.work
        while isinstance(inner, _WORK):
            innermost = inner if isinstance(inner, CoroutineType) else innermost
            inner = _awaited(inner)
        if getattr(innermost, "cr_code", None) in _EXITS:
            names = innermost.cr_frame.f_locals
            group = names["self"]
            # if its body has raised, as by the group's cancellation, the group has taken that back itself
            if group._parent_cancel_requested and names["et"] is None:
                group._parent_cancel_requested = False  # the group has read that already
                asyncio.current_task().uncancel()  # type: ignore[union-attr]  # it executes this
        return self.work.throw(*error)

    def close(self) -> None:
        """Close the work."""
        self.work.close()


def _awaited(work: Any) -> Any:
    """Return what a coroutine or a generator awaits; in place of an iterator over another one's steps, that one."""
    inner = next(getattr(work, name) for name in ("cr_await", "ag_await", "gi_yieldfrom") if hasattr(work, name))
    if type(inner).__name__ in _ITERATORS:
        return next((each for each in gc.get_referents(inner) if isinstance(each, _WORK)), None)
    return inner


def taking_back(work: Coroutine[Any, Any, T]) -> Awaitable[T]:
    """Return an awaitable for the work of an asyncio task that takes back the cancellations of its failed groups."""
    if sys.version_info >= (3, 13):
        return work
    taking = _TakingBack(work.__await__(), None)
    taking.work = work
    return taking  # type: ignore[return-value]  # an iterator with `throw` and `close` is enough
