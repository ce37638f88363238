"""`VirtualClock`: a clock that skips waits, and runs timers in the same order every time."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager
from functools import partial
from typing import Any

from cano.errors import ConfigurationError

START = 1_700_000_000.0
_SETTLE = 3  # number of turns of the event loop without work, I/O included, after which it counts as idle
_SETTLE_UNSEEN = 200  # the same for a loop that does not show whether callbacks are ready

_POLL = 0.0005  # real seconds between two checks whether the clock is still held


class VirtualClock:
    """A `Clock` that jumps to the next timer whenever the event loop is idle.

    With `Kernel(clock=VirtualClock())`, retries, timeouts, waits and schedules take no real time. A clock serves one
    event loop at a time. It does not notice the work of a store in a file or on a server, and jumps during it. To
    prevent that, use `FaultyStore(store, Faults(clock))`, which holds the clock during each call.

    An event loop other than asyncio's, such as uvloop, does not show whether callbacks are ready. There the clock waits
    for 200 turns of the loop in which nothing has asked it for the time or for a timer.

    Args:
        start: the wall-clock time at first, in seconds since the Unix epoch.
        auto: whether to jump by itself; otherwise only `advance` moves the time.
    """

    def __init__(self, start: float = START, *, auto: bool = True) -> None:
        self._wall = start
        self._now = 0.0
        self._auto = auto
        self._timers: list[tuple[float, int, VirtualTimer]] = []
        self._order = itertools.count()
        self._idle_turns = 0
        self._watching: asyncio.Handle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # that of `_watching`
        self._advances = 0
        self._holds = 0
        self._asked = 0  # how often the clock was asked for the time or a timer
        self._asked_before = 0

    def time(self) -> float:
        """Return the virtual wall-clock time in seconds since the Unix epoch."""
        self._asked += 1
        return self._wall + self._now

    def monotonic(self) -> float:
        """Return the virtual seconds since the clock was made."""
        self._asked += 1
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds` of virtual time."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        timer = self.call_at(self._now + seconds, partial(_wake, woken))
        try:
            await woken
        finally:
            timer.cancel()

    def call_at(self, when: float, callback: Callable[[], Any]) -> VirtualTimer:
        """Call `callback` when the virtual time reaches `when`. Timers of the same time run in the order of calls."""
        self._asked += 1
        timer = VirtualTimer(when, callback)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        if self._auto:
            self._watch()
        return timer

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep the clock from jumping in the `with` block, in which a thread or a disk may be at work."""
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
            self._idle_turns = 0

    async def advance(self, seconds: float) -> None:
        """Move the time forward by `seconds`, and run every timer that is due in between at its own time.

        Raises:
            ConfigurationError: `seconds` is negative.
        """
        if not seconds >= 0:
            raise ConfigurationError(f"advance() takes seconds, 0 or more, not {seconds!r}")
        end = self._now + seconds
        self._advances += 1
        if self._watching is not None:
            self._watching.cancel()  # meanwhile the clock does not jump by itself
            self._watching = None
        try:
            await self._settle()
            while (due := self._next_due()) is not None and due <= end:
                self._jump(due)
                await self._settle()
            self._now = max(self._now, end)
            await self._settle()
        finally:
            self._advances -= 1
            if self._auto and self._next_due() is not None:
                self._watch()

    async def _settle(self) -> None:
        """Wait until the event loop is idle and the clock is not held."""
        loop = asyncio.get_running_loop()
        turns = 0
        while turns < _enough(loop):
            await asyncio.sleep(_POLL if self._holds else 0)
            turns = 0 if self._busy(loop) else turns + 1

    def _busy(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Return whether callbacks are ready to run in the loop's next turn, or the clock is held."""
        ready = _ready(loop)
        before, self._asked_before = self._asked_before, self._asked
        return bool(self._holds or (before != self._asked if ready is None else ready))

    def _next_due(self) -> float | None:
        while self._timers and self._timers[0][2].cancelled:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def _jump(self, when: float) -> None:
        self._now = max(self._now, when)
        while (due := self._next_due()) is not None and due <= self._now:
            heapq.heappop(self._timers)[2].run()

    # jumping by itself: while timers are pending, a callback runs in every turn of the event loop

    def _watch(self) -> None:
        if self._advances:
            return
        loop = asyncio.get_running_loop()
        if self._watching is not None:
            if self._loop is loop:
                return
            self._watching.cancel()  # it belongs to an event loop that has ended
        self._idle_turns, self._loop = 0, loop
        self._watching = loop.call_soon(self._turn, loop)

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._watching = None
        due = self._next_due()
        if due is None:
            return
        self._idle_turns = 0 if self._busy(loop) else self._idle_turns + 1
        try:
            if self._idle_turns > _enough(loop):
                self._idle_turns = 0
                self._jump(due)
        finally:
            # even after a callback that raised; a timer's callback may have started to watch already
            if self._watching is None and self._next_due() is not None:
                if self._holds:
                    # the clock is held: check again later, without spinning
                    self._watching = loop.call_later(_POLL, self._turn, loop)
                else:
                    self._watching = loop.call_soon(self._turn, loop)


class VirtualTimer:
    """A callback due at a virtual time."""

    __slots__ = ("_callback", "cancelled", "when")

    def __init__(self, when: float, callback: Callable[[], Any]) -> None:
        self.when = when
        self.cancelled = False
        self._callback = callback

    def cancel(self) -> None:
        """Cancel the callback. Does nothing if it has already run."""
        self.cancelled = True

    def run(self) -> None:
        """Call the callback."""
        self.cancelled = True
        self._callback()


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)


def _ready(loop: asyncio.AbstractEventLoop) -> Sized | None:
    """Return the callbacks that are ready, which no public name shows; None if the loop is not asyncio's own."""
    ready = getattr(loop, "_ready", None)
    return ready if isinstance(loop, asyncio.BaseEventLoop) and isinstance(ready, Sized) else None


def _enough(loop: asyncio.AbstractEventLoop) -> int:
    """Return the number of turns without work after which the loop counts as idle."""
    return _SETTLE if _ready(loop) is not None else _SETTLE_UNSEEN
