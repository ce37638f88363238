"""What is due next: one heap of the times at which anything is, and one timer for the earliest."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from cano import Clock, Timer

from cano_scheduler._times import SECOND, micros

_LONGEST = 300 * SECOND  # the wall clock may be set meanwhile, or the machine sleep: look again now and then


class Agenda:
    """When which schedule is due. Those of one time come in the order in which they were put.

    Args:
        clock: where time comes from.
        wake: called when something is due.
    """

    def __init__(self, clock: Clock, wake: Callable[[], None]) -> None:
        self._clock = clock
        self._wake = wake
        self._times: list[int] = []
        self._at: dict[int, list[str]] = {}  # what was put at each of the times; some of it may be due another time now
        self._due: dict[str, int] = {}
        self._timer: Timer | None = None
        self._armed_for: int | None = None

    def now(self) -> int:
        """Microseconds since the epoch."""
        return micros(self._clock.time())

    def put(self, id: str, due: int | None) -> None:
        """Let `id` be due then, and not when it was to be before; None is never."""
        if due is None:
            self._due.pop(id, None)
        elif self._due.get(id) != due:
            self._due[id] = due
            there = self._at.get(due)
            if there is None:
                self._at[due] = [id]
                heapq.heappush(self._times, due)
            else:
                there.append(id)

    def pop(self) -> list[str]:
        """Those that are due first, if they are due now."""
        while self._times and self._times[0] <= self.now():
            due = heapq.heappop(self._times)
            found = [id for id in dict.fromkeys(self._at.pop(due)) if self._due.get(id) == due]
            for id in found:
                del self._due[id]
            if found:
                return found
        return []

    def arm(self) -> None:
        """Let the timer be that of the earliest time."""
        while self._times and not any(self._due.get(id) == self._times[0] for id in self._at[self._times[0]]):
            del self._at[heapq.heappop(self._times)]
        head = self._times[0] if self._times else None
        if head == self._armed_for:
            return
        self.disarm()
        if head is not None:
            self._armed_for = head
            pause = min(max(head - self.now(), 0), _LONGEST) / SECOND
            self._timer = self._clock.call_at(self._clock.monotonic() + pause, self._ring)

    def disarm(self) -> None:
        """Let there be no timer."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._armed_for = None, None

    def _ring(self) -> None:
        self._timer, self._armed_for = None, None
        self._wake()
