"""A queue of due times: one heap of times, and one timer for the earliest."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from cano import Clock, Timer

from cano_scheduler._times import SECOND, micros

LONGEST = 60 * SECOND
"""The timer wakes at least this often, in microseconds: the wall clock may be set, or the machine may sleep."""
_STEP = SECOND  # smaller differences between the clocks are not a clock that was set


class TimerQueue:
    """A priority queue of ids by due time. Ids with the same time keep their insertion order.

    Args:
        clock: the time source.
        wake: called when an id is due.
    """

    def __init__(self, clock: Clock, wake: Callable[[], None]) -> None:
        self._clock = clock
        self._wake = wake
        self._times: list[int] = []
        self._at: dict[int, list[str]] = {}  # the ids put at each time; some may have moved to another time since
        self._due: dict[str, int] = {}
        self._timer: Timer | None = None
        self._armed_for: int | None = None
        self._lead = self._wall_lead()

    def now(self) -> int:
        """Return the current time in microseconds since the epoch."""
        return micros(self._clock.time())

    def set_back(self) -> int:
        """Return by how many microseconds the wall clock was set back since the last call; 0 if it was not."""
        before, self._lead = self._lead, self._wall_lead()
        return before - self._lead if before - self._lead >= _STEP else 0

    def _wall_lead(self) -> int:
        return self.now() - micros(self._clock.monotonic())

    def put(self, id: str, due: int | None) -> None:
        """Set the due time of `id`, in place of its previous one; None removes it."""
        if due is None:
            self._due.pop(id, None)
        elif self._due.get(id) != due:
            self._due[id] = due
            ids = self._at.get(due)
            if ids is None:
                self._at[due] = [id]
                heapq.heappush(self._times, due)
            else:
                ids.append(id)

    def pop(self) -> list[str]:
        """Remove and return the ids with the earliest due time, if that has come; otherwise return none."""
        while self._times and self._times[0] <= self.now():
            due = heapq.heappop(self._times)
            found = [id for id in dict.fromkeys(self._at.pop(due)) if self._due.get(id) == due]
            for id in found:
                del self._due[id]
            if found:
                return found
        return []

    def arm(self) -> None:
        """Set the timer to the earliest due time."""
        while self._times and not any(self._due.get(id) == self._times[0] for id in self._at[self._times[0]]):
            del self._at[heapq.heappop(self._times)]
        head = self._times[0] if self._times else None
        if head == self._armed_for:
            return
        self.disarm()
        if head is not None:
            self._armed_for = head
            pause = min(max(head - self.now(), 0), LONGEST) / SECOND
            self._timer = self._clock.call_at(self._clock.monotonic() + pause, self._timer_fired)

    def disarm(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._armed_for = None, None

    def _timer_fired(self) -> None:
        self._timer, self._armed_for = None, None
        self._wake()
