"""Triggers: the nominal times of a schedule. They are stateless; the caller passes the anchor and the cursor."""

from __future__ import annotations

from typing import Protocol

from cano_scheduler._daylight import ZonedCron
from cano_scheduler._times import SECOND


class Trigger(Protocol):
    """A finite or infinite sequence of nominal times, in microseconds since the epoch.

    Attributes:
        kind: its name in lists.
        definition: a text that differs for different sequences.
    """

    kind: str
    definition: str

    def anchor(self, now: int) -> int:
        """Return the time from which the sequence counts, for a schedule that begins at `now`."""
        ...

    def next(self, after: int, anchor: int) -> int | None:
        """Return the first nominal time later than `after`, or None."""
        ...

    def initial_cursor(self, now: int, anchor: int) -> int:
        """Return the cursor of a schedule that begins at `now`: its nominal times are later than this."""
        ...

    def count(self, after: int, until: int, anchor: int) -> int:
        """Return the number of nominal times later than `after`, up to `until`, without visiting them."""
        ...

    def latest(self, number: int, after: int, until: int, anchor: int) -> int | None:
        """Return the `number`-th last of those nominal times; None if there are fewer."""
        ...


class CronTrigger:
    """The times at which a cron expression matches."""

    kind = "cron"

    def __init__(self, cron: ZonedCron) -> None:
        self._cron = cron
        self._last: tuple[int, int] = (0, 0)
        self.zone = cron.zone
        self.definition = f"cron {cron.cron.expression} {cron.zone.info.key} gap={cron.gap} fold={cron.fold}"

    def anchor(self, now: int) -> int:
        """Return `now`; the sequence does not depend on it."""
        return now

    def next(self, after: int, anchor: int) -> int | None:
        """Return the first match later than `after`."""
        second = after // SECOND
        if self._last[0] != second or not second:
            self._last = (second, self._cron.next(second))
        return self._last[1] * SECOND

    def initial_cursor(self, now: int, anchor: int) -> int:
        """Return `now`: a match at exactly `now` does not count."""
        return now

    def count(self, after: int, until: int, anchor: int) -> int:
        """Return the number of matches later than `after`, up to `until`."""
        return self._cron.count(after // SECOND, until // SECOND)

    def latest(self, number: int, after: int, until: int, anchor: int) -> int | None:
        """Return the `number`-th last of those matches, by bisection."""
        first, high = after // SECOND, until // SECOND
        width, end = 60, high
        while self._cron.count(low := max(end - width, first), end) < number:
            if low == first:
                return None
            width *= 8
        while high - low > 1:
            middle = (low + high) // 2
            if self._cron.count(middle, end) >= number:
                low = middle
            else:
                high = middle
        return (low + 1) * SECOND


class EveryTrigger:
    """Times at equal intervals, counted from the anchor, so that they do not drift.

    Args:
        interval: microseconds between two times.
        first: the first time, in microseconds since the epoch if `absolute`, or else after the schedule begins.
        absolute: whether `first` counts from the epoch.
    """

    kind = "every"

    def __init__(self, interval: int, first: int, absolute: bool) -> None:
        self.interval = interval
        self._first = first
        self.absolute = absolute
        self.definition = f"every {interval} µs from {'' if absolute else '+'}{first}"

    def anchor(self, now: int) -> int:
        """Return the first time."""
        return self._first if self.absolute else now + self._first

    def next(self, after: int, anchor: int) -> int:
        """Return the first time later than `after`."""
        return anchor if after < anchor else after + self.interval - (after - anchor) % self.interval

    def initial_cursor(self, now: int, anchor: int) -> int:
        """Return the microsecond before `now`: a time at exactly `now` counts, earlier ones do not."""
        return now - 1

    def count(self, after: int, until: int, anchor: int) -> int:
        """Return the number of times later than `after`, up to `until`."""
        return max(0, (until - self.next(after, anchor)) // self.interval + 1)

    def latest(self, number: int, after: int, until: int, anchor: int) -> int | None:
        """Return the `number`-th last of those times."""
        more = self.count(after, until, anchor) - number
        return None if more < 0 else self.next(after, anchor) + more * self.interval


class AtTrigger:
    """A single time."""

    kind = "at"

    def __init__(self, when: int) -> None:
        self._when = when
        self.definition = f"at {when} µs"

    def anchor(self, now: int) -> int:
        """Return the time."""
        return self._when

    def next(self, after: int, anchor: int) -> int | None:
        """Return the time if it is later than `after`."""
        return self._when if after < self._when else None

    def initial_cursor(self, now: int, anchor: int) -> int:
        """Return a cursor before the time, so that a time in the past counts as missed."""
        return min(now, self._when - 1)

    def count(self, after: int, until: int, anchor: int) -> int:
        """Return 1 if the time is later than `after`, up to `until`; otherwise 0."""
        return int(after < self._when <= until)

    def latest(self, number: int, after: int, until: int, anchor: int) -> int | None:
        """Return the time if `number` is 1 and the time is later than `after`, up to `until`."""
        return self._when if number == 1 and after < self._when <= until else None


class NoTrigger:
    """No nominal times: runs start only for an event or a trigger.

    Args:
        event: the name of the event, or None.
    """

    def __init__(self, event: str | None = None) -> None:
        self.event = event
        self.kind = "manual" if event is None else "on"
        self.definition = self.kind if event is None else f"on {event}"

    def anchor(self, now: int) -> int:
        """Return `now`."""
        return now

    def next(self, after: int, anchor: int) -> int | None:
        """Return None."""
        return None

    def initial_cursor(self, now: int, anchor: int) -> int:
        """Return `now`."""
        return now

    def count(self, after: int, until: int, anchor: int) -> int:
        """Return 0."""
        return 0

    def latest(self, number: int, after: int, until: int, anchor: int) -> int | None:
        """Return None."""
        return None
