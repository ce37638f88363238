"""Bounds: how much is read of a run, how many signals wait for it, and how long the event loop is busy with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, TypeVar

from cano import Appended, Clock, SerializationError, SizeLimits, StoreBackend

R = TypeVar("R")

MANY = 1000
"""Number of values from which a thread works on them."""
REMEMBERED = 10_000
"""Number of runs for which a kernel remembers how many more signals it may send."""


async def off_loop(count: int, work: Callable[[], R], clock: Clock | None = None) -> R:
    """Return the result of `work`, which a thread does if it concerns `MANY` values, so that the event loop is free."""
    if count < MANY:
        return work()
    with getattr(clock, "hold", nullcontext)():  # virtual time must not pass while a thread works
        return await asyncio.to_thread(work)


def count_of(values: Mapping[str, Any]) -> int:
    """Return the number of encoded values, each part of an `Appended` one counted."""
    stored: Mapping[str, Any] = getattr(values, "stored", values)  # to look up an encrypted value is to decrypt it
    return sum(len(value) if value.__class__ is Appended else 1 for value in stored.values())


class Total:
    """The number of bytes that were read of a run.

    Args:
        most: the limit `SizeLimits.run`.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._bytes = 0

    def add(self, count: int) -> None:
        """Count more bytes. Raises SerializationError if these are too many."""
        self._bytes += count
        if self._bytes > self._most:
            raise SerializationError(
                f"with it, the run's values have {self._bytes} bytes, more than SizeLimits.run = {self._most}; raise "
                "the limit: Kernel(limits=SizeLimits(run=…))"
            )


class WaitingSignals:
    """The number of signals that one kernel may still send to each run, before it counts those that wait again."""

    def __init__(self, backend: StoreBackend, limits: SizeLimits) -> None:
        self._backend = backend
        self._limits = limits
        self._left: dict[str, int] = {}

    async def check(self, run_id: str) -> None:
        """Count a signal that is about to be sent. Raises SizeLimitError if too many wait for the run already."""
        left = self._left.pop(run_id, 0)
        if left <= 0:
            waiting = sum(not signal.own for signal in (await self._backend.signals(run_id)).waiting)
            left = self._limits.signals - waiting
            if left <= 0:
                problem = f"{waiting} signals wait for run {run_id} already, with this one {waiting + 1}"
                raise self._limits.exceeded("signals", problem, waiting + 1, run_id)
        if len(self._left) >= REMEMBERED:
            self._left.clear()
        self._left[run_id] = left - 1
