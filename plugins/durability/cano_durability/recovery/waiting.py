"""Callers that wait for a change of a run, and the alarms of parked runs."""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from cano import Clock, Timer, Wait


class Waiters:
    """The callers in this kernel that wait until something happens to a run."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}

    @contextmanager
    def waiter(self, run_id: str) -> Iterator[asyncio.Future[None]]:
        """Provide a future that is done at the next change of the run."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(run_id, set())
        waiting.add(future)
        try:
            yield future
        finally:
            waiting.discard(future)
            if not waiting and self._waiting.get(run_id) is waiting:
                del self._waiting[run_id]

    async def change(self, future: asyncio.Future[None], seconds: float | None) -> None:
        """Wait until `future` is done, but at most `seconds`; None for no limit."""
        timer = None
        if seconds is not None:
            timer = self._clock.call_at(self._clock.monotonic() + seconds, lambda: _finish(future))
        try:
            await future
        finally:
            if timer is not None:
                timer.cancel()

    def notify(self, run_id: str) -> None:
        """Wake all callers that wait for the run."""
        for future in list(self._waiting.get(run_id, ())):
            _finish_in_loop(future)

    @property
    def run_ids(self) -> set[str]:
        """The runs that callers wait for."""
        return set(self._waiting)


class Alarms:
    """Wakes parked runs when their time has come: one heap of times, and one timer for the earliest.

    Args:
        clock: the source of time.
        wake: called with the id of a run whose time has come.
        most: number of the nearest alarms to keep; the polls of a durable store find the other runs. None keeps all.
    """

    def __init__(self, clock: Clock, wake: Callable[[str], object], most: int | None = None) -> None:
        self._clock = clock
        self._wake = wake
        self._most = math.inf if most is None else most
        self._due: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []  # also times that are no longer in `_due`
        self._timer: tuple[asyncio.AbstractEventLoop, float, Timer] | None = None
        self._closed = False

    def set(self, run_id: str, wait: Wait) -> None:
        """Wake the run at the end of its wait. Cancel its alarm if the wait has no time."""
        if wait.until is None or self._closed:
            self.cancel(run_id)
        elif self._due.get(run_id) != wait.until:
            self._due[run_id] = wait.until
            heapq.heappush(self._heap, (wait.until, run_id))
            self._forget()
            self._arm()

    def wake(self, run_id: str) -> None:
        """Wake the run now."""
        if not self._closed:
            self._wake(run_id)

    def cancel(self, run_id: str) -> None:
        """Do not wake the run."""
        self._due.pop(run_id, None)

    def close(self) -> None:
        """Cancel all alarms, and set no more."""
        self._closed = True
        self._due.clear()
        self._heap.clear()
        self._disarm()

    def _forget(self) -> None:
        """Drop the latest of too many alarms, and the times in the heap that are no longer needed."""
        due = self._due
        many = len(due) > self._most * 1.1
        if many or len(self._heap) > 2 * len(due) + 100:
            times = [(until, run_id) for run_id, until in due.items()]
            self._heap = sorted(times)[: int(min(self._most, len(times)))]
            self._due = {run_id: until for until, run_id in self._heap}

    def _arm(self) -> None:
        """Let the timer fire at the earliest time, in this event loop: another one may have ended."""
        if not self._heap:
            return
        loop, at = asyncio.get_running_loop(), self._heap[0][0]
        if self._timer is None or self._timer[0] is not loop or at < self._timer[1]:
            self._disarm()
            clock = self._clock
            timer = clock.call_at(clock.monotonic() + max(0.0, at - clock.time()), self._ring)
            self._timer = loop, at, timer

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer[2].cancel()
            self._timer = None

    def _ring(self) -> None:
        """Wake the runs whose time has come, by the clock or by the timer: the wall clock may have been set back."""
        now = self._clock.time() if self._timer is None else max(self._timer[1], self._clock.time())
        self._timer = None
        while self._heap and self._heap[0][0] <= now:
            until, run_id = heapq.heappop(self._heap)
            if self._due.get(run_id) == until:
                del self._due[run_id]
                self.wake(run_id)
        self._arm()


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _finish_in_loop(future: asyncio.Future[None]) -> None:
    """Finish a future in its own event loop, unless that was closed."""
    if (loop := future.get_loop()) is asyncio._get_running_loop():
        _finish(future)
    else:
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_finish, future)
