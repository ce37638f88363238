"""Bounds: how much is read of a run, how many signals wait for it, and how long the event loop is busy with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, TypeVar, cast

from cano import (
    Appended,
    AuditEntry,
    Clock,
    LimitingStore,
    SerializationError,
    Signal,
    SizeLimitError,
    SizeLimits,
    StoreBackend,
)

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
    """Limits the signals that wait for each run: in the store, if that can; others are counted by each kernel.

    For these, it keeps the number of signals that the kernel may still send before it counts those that wait again.
    """

    def __init__(self, backend: StoreBackend, limits: SizeLimits) -> None:
        self._backend = backend
        self._limits = limits
        self._left: dict[str, int] = {}

    async def put(self, run_id: str, signal: Signal, *audit: AuditEntry) -> None:
        """Store a user's signal. Raises SizeLimitError if too many wait for the run already."""
        most = self._limits.signals
        if self._backend.capabilities.signal_limit:
            store = cast(LimitingStore, self._backend)
            if not await store.put_signal_within(run_id, signal, most, *audit):
                raise self._exceeded(run_id, most)
            return
        await self._count(run_id)
        await self._backend.put_signal(run_id, signal, *audit)

    def _exceeded(self, run_id: str, waiting: int) -> SizeLimitError:
        problem = f"{waiting} signals wait for run {run_id} already, with this one {waiting + 1}"
        return self._limits.exceeded("signals", problem, waiting + 1, run_id)

    async def _count(self, run_id: str) -> None:
        left = self._left.pop(run_id, 0)
        if left <= 0:
            waiting = sum(not signal.own for signal in (await self._backend.signals(run_id)).waiting)
            left = self._limits.signals - waiting
            if left <= 0:
                raise self._exceeded(run_id, waiting)
        if len(self._left) >= REMEMBERED:
            self._left.clear()
        self._left[run_id] = left - 1
