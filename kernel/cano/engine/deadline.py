"""Time limits: one timer per run, however many attempts, steps and limits it watches.

Arming and disarming only moves a number; the timer that is under way looks at it when it fires. That is what
makes a limit cost a fraction of `asyncio.timeout`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from cano.protocols import Clock, Timer

TEARDOWN_GRACE = 1.0
"""Seconds that cancelled work gets for its clean-up before it is cancelled again."""


class Watchdog:
    """Cancels the task that it was made in when a deadline passes.

    Attributes:
        deadline: monotonic seconds of the soonest limit in force, or None.
        cancels: how often it has cancelled the task since the last `clear`.
    """

    __slots__ = ("_clock", "_due", "_notice", "_task", "_timer", "cancels", "deadline")

    def __init__(self, clock: Clock, task: asyncio.Task[Any], notice: Callable[[], None]) -> None:
        self._clock = clock
        self._task = task
        self._notice = notice
        self._timer: Timer | None = None
        self._due = 0.0
        self.cancels = 0
        self.deadline: float | None = None

    def arm(self, deadline: float | None) -> None:
        """Set the soonest limit in force."""
        self.deadline = deadline
        if deadline is not None and (self._timer is None or self._due > deadline):
            self._schedule(deadline)

    def _schedule(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = when
        self._timer = self._clock.call_at(when, self._fire)

    def _fire(self) -> None:
        self._timer = None
        if self.deadline is None:
            return
        now = self._clock.monotonic()
        if now < self.deadline:
            self._schedule(self.deadline)
            return
        self._notice()
        self.cancels += 1
        self._task.cancel()
        # a clean-up that hangs, or swallows the cancellation, is cancelled again
        self._schedule(now + TEARDOWN_GRACE)

    def clear(self) -> None:
        """Take back the cancellations of our own, after they have done their work."""
        for _ in range(self.cancels):
            self._task.uncancel()
        self.cancels = 0

    def close(self) -> None:
        """Watch no longer."""
        self.deadline = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
