"""Callers that wait for a change of a run, and the alarms of parked runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
        for future in self._waiting.get(run_id, ()):
            _finish(future)

    @property
    def run_ids(self) -> set[str]:
        """The runs that callers wait for."""
        return set(self._waiting)


class Alarms:
    """Timers that wake parked runs when their time has come."""

    def __init__(self, clock: Clock, wake: Callable[[str], object]) -> None:
        self._clock = clock
        self._wake = wake
        self._alarms: dict[str, tuple[float, Timer]] = {}
        self._closed = False

    def set(self, run_id: str, wait: Wait) -> None:
        """Wake the run at the end of its wait. Cancel its alarm if the wait has no time."""
        known = self._alarms.get(run_id)
        if known is not None and known[0] == wait.until:
            return
        self.cancel(run_id)
        if wait.until is None or self._closed:
            return

        def ring() -> None:
            self._alarms.pop(run_id, None)
            self.wake(run_id)

        clock = self._clock
        timer = clock.call_at(clock.monotonic() + max(0.0, wait.until - clock.time()), ring)
        self._alarms[run_id] = wait.until, timer

    def wake(self, run_id: str) -> None:
        """Wake the run now."""
        if not self._closed:
            self._wake(run_id)

    def cancel(self, run_id: str) -> None:
        """Do not wake the run."""
        _, timer = self._alarms.pop(run_id, (0.0, None))
        if timer is not None:
            timer.cancel()

    def close(self) -> None:
        """Cancel all alarms, and set no more."""
        self._closed = True
        for run_id in tuple(self._alarms):
            self.cancel(run_id)


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
