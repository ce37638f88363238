"""Deadlines: one timer per run watches the timeouts of all its attempts and steps.

To arm or disarm the watchdog only sets a number, which the pending timer compares when it fires. Therefore a timeout
costs a fraction of `asyncio.timeout`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from cano.protocols import Clock, Timer

TEARDOWN_GRACE = 1.0
"""Seconds for which cancelled work may clean up before it is cancelled again."""


class Watchdog:
    """Cancels an asyncio task when its deadline passes.

    Args:
        clock: the source of time.
        task: the task.
        notice: called before each cancellation.

    Attributes:
        deadline: the soonest deadline in monotonic seconds, or None.
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
        """Set the soonest deadline, in monotonic seconds; None for no deadline."""
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
        # a task whose clean-up hangs, or that swallows the cancellation, is cancelled again
        self._schedule(now + TEARDOWN_GRACE)

    def clear(self) -> None:
        """Undo the watchdog's cancellations in the task's counter (`Task.uncancel`)."""
        for _ in range(self.cancels):
            self._task.uncancel()
        self.cancels = 0

    def close(self) -> None:
        """Stop the timer."""
        self.deadline = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
