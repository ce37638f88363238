"""Triggers: when a schedule is due. They hold no state; a schedule's anchor and cursor are given to them."""

from __future__ import annotations

from typing import Protocol

from cano_scheduler._daylight import ZonedCron
from cano_scheduler._times import SECOND


class Trigger(Protocol):
    """An endless or ended sequence of nominal times, in microseconds since the epoch.

    Attributes:
        kind: what it is called in lists.
        definition: text that is another for every other sequence.
    """

    kind: str
    definition: str

    def anchor(self, now: int) -> int:
        """What the sequence of a schedule that begins `now` counts from."""
        ...

    def next(self, after: int, anchor: int) -> int | None:
        """The first nominal time later than `after`, or None."""
        ...

    def begins(self, now: int, anchor: int) -> int:
        """The moment after which a schedule that begins `now` has nominal times."""
        ...


class CronTrigger:
    """Wherever a cron expression matches."""

    kind = "cron"

    def __init__(self, cron: ZonedCron) -> None:
        self._cron = cron
        self._last: tuple[int, int] = (0, 0)
        self.zone = cron.zone
        self.definition = f"cron {cron.cron.expression} {cron.zone.info.key} gap={cron.gap} fold={cron.fold}"

    def anchor(self, now: int) -> int:
        """The beginning; the sequence does not depend on it."""
        return now

    def next(self, after: int, anchor: int) -> int | None:
        """The first match later than `after`."""
        asked = after // SECOND
        if self._last[0] != asked or not asked:
            self._last = (asked, self._cron.next(asked))
        return self._last[1] * SECOND

    def begins(self, now: int, anchor: int) -> int:
        """Now: a match at this very moment is over."""
        return now


class EveryTrigger:
    """Equally far apart, counted from the anchor, so that nothing drifts.

    Args:
        interval: microseconds between two times.
        first: the first time; as microseconds from the schedule's beginning unless `absolute`.
        absolute: whether `first` is a moment.
    """

    kind = "every"

    def __init__(self, interval: int, first: int, absolute: bool) -> None:
        self.interval = interval
        self._first = first
        self._absolute = absolute
        self.definition = f"every {interval} µs from {'' if absolute else '+'}{first}"

    def anchor(self, now: int) -> int:
        """The first time."""
        return self._first if self._absolute else now + self._first

    def next(self, after: int, anchor: int) -> int | None:
        """The first time of the grid later than `after`."""
        return anchor if after < anchor else after + self.interval - (after - anchor) % self.interval

    def begins(self, now: int, anchor: int) -> int:
        """Just before now, so that a time of now counts; times of the grid before that are over."""
        return now - 1

    def jump(self, after: int, until: int, anchor: int) -> tuple[int, int]:
        """How many times of the grid there are after `after` up to `until`, and the last of them."""
        first = self.next(after, anchor)
        if first is None or first > until:
            return 0, after
        more = (until - first) // self.interval
        return more + 1, first + more * self.interval


class AtTrigger:
    """Once."""

    kind = "at"

    def __init__(self, when: int) -> None:
        self._when = when
        self.definition = f"at {when} µs"

    def anchor(self, now: int) -> int:
        """The time."""
        return self._when

    def next(self, after: int, anchor: int) -> int | None:
        """The time, if it is still to come."""
        return self._when if after < self._when else None

    def begins(self, now: int, anchor: int) -> int:
        """Before the time, also when that is over: it was missed, then."""
        return min(now, self._when - 1)


class NoTrigger:
    """Never by itself: by an event, or by hand.

    Args:
        event: the event's name, or None.
    """

    def __init__(self, event: str | None = None) -> None:
        self.event = event
        self.kind = "manual" if event is None else "on"
        self.definition = self.kind if event is None else f"on {event}"

    def anchor(self, now: int) -> int:
        """The beginning."""
        return now

    def next(self, after: int, anchor: int) -> int | None:
        """None."""
        return None

    def begins(self, now: int, anchor: int) -> int:
        """Now."""
        return now
