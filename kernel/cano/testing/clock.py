"""Virtual time: an hour passes in microseconds, in the same order every time."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from cano.errors import ConfigurationError

START = 1_700_000_000.0
_SETTLE = 3  # turns of the event loop without any work, I/O included, that count as idle

_LOOK_AGAIN = 0.0005  # real seconds between two looks at whether something real is still at work


class VirtualClock:
    """A `Clock` that jumps to the next timer whenever the event loop has nothing else to do.

    Give it to `Kernel(clock=VirtualClock())`: retries, time limits, waits and schedules then take no real time.
    It serves one event loop at a time. It cannot see the work of a store in a file or on a server, and jumps meanwhile:
    let that store be a `FaultyStore(store, Faults(clock))`, which holds the clock while it works.

    Args:
        start: wall-clock seconds at first.
        auto: whether to jump by itself. Without it only `advance` moves the time.
    """

    def __init__(self, start: float = START, *, auto: bool = True) -> None:
        self._wall = start
        self._now = 0.0
        self._auto = auto
        self._timers: list[tuple[float, int, VirtualTimer]] = []
        self._order = itertools.count()
        self._idle_turns = 0
        self._watching: asyncio.Handle | None = None
        self._holds = 0

    def time(self) -> float:
        """Wall-clock seconds since the Unix epoch."""
        return self._wall + self._now

    def monotonic(self) -> float:
        """Virtual seconds since the clock was made."""
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
        """Call `callback` when the virtual time has reached `when`; timers of one time run in their order of making."""
        timer = VirtualTimer(when, callback)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        if self._auto:
            self._watch()
        return timer

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Let no time pass by itself: something real, such as a thread or a disk, is at work."""
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
            self._idle_turns = 0

    async def advance(self, seconds: float) -> None:
        """Let `seconds` pass, running every timer that is due on the way, each at its own time.

        Raises:
            ConfigurationError: `seconds` is negative.
        """
        if not seconds >= 0:
            raise ConfigurationError(f"advance() takes seconds, 0 or more, not {seconds!r}")
        end = self._now + seconds
        await self._settle()
        while (due := self._next_due()) is not None and due <= end:
            self._jump(due)
            await self._settle()
        self._now = max(self._now, end)
        await self._settle()

    async def _settle(self) -> None:
        """Let everything that can run now run."""
        loop = asyncio.get_running_loop()
        turns = 0
        while turns < _SETTLE:
            await asyncio.sleep(_LOOK_AGAIN if self._holds else 0)
            turns = turns + 1 if not _busy(loop) and not self._holds else 0

    def _next_due(self) -> float | None:
        while self._timers and self._timers[0][2].cancelled:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def _jump(self, when: float) -> None:
        self._now = max(self._now, when)
        while (due := self._next_due()) is not None and due <= self._now:
            heapq.heappop(self._timers)[2].run()

    # jumping by itself: a callback that comes round in every turn of the loop while timers are pending

    def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        if self._watching is not None:
            if getattr(self._watching, "_loop", loop) is loop:
                return
            self._watching.cancel()  # it belongs to a loop that has ended
        self._idle_turns = 0
        self._watching = loop.call_soon(self._turn, loop)

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._watching = None
        due = self._next_due()
        if due is None:
            return
        self._idle_turns = 0 if _busy(loop) or self._holds else self._idle_turns + 1
        try:
            if self._idle_turns > _SETTLE:
                self._idle_turns = 0
                self._jump(due)
        finally:
            # also after a callback that raised; a timer that ran may have begun to watch itself
            if self._watching is None and self._next_due() is not None:
                if self._holds:
                    # something real is at work: look again a little later, without spinning
                    self._watching = loop.call_later(_LOOK_AGAIN, self._turn, loop)
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
        """Drop it. Harmless when it has run already."""
        self.cancelled = True

    def run(self) -> None:
        """Call the callback."""
        self.cancelled = True
        self._callback()


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)


def _busy(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether other callbacks are ready to run in the loop's next turn."""
    return bool(getattr(loop, "_ready", ()))
