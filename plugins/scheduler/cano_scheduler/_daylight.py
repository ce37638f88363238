"""Cron in a time zone, with policies for wall times that do not exist or exist twice.

It goes through the periods between two offset changes, in UTC. Within a period each wall time exists exactly once, so
only the edges of periods need a policy.
"""

from __future__ import annotations

from typing import Literal

from cano import ConfigurationError

from cano_scheduler._cron import Cron
from cano_scheduler._zone import Period, Zone

Gap = Literal["next", "skip", "shift"]
Fold = Literal["first", "last", "both"]
_PERIODS = 400


class ZonedCron:
    """The times at which a cron expression matches in a zone.

    Args:
        cron: the expression.
        zone: the zone.
        gap: a matching wall time that does not exist counts at the first instant after the gap ("next"), not at all
            ("skip"), or later by the length of the gap ("shift").
        fold: a matching wall time that exists twice counts the first time, the last time or both times.
    """

    def __init__(self, cron: Cron, zone: Zone, gap: Gap, fold: Fold) -> None:
        self.cron = cron
        self.zone = zone
        self.gap = gap
        self.fold = fold

    def next(self, after: int) -> int:
        """Return the first match later than `after`, in seconds since the epoch.

        Raises:
            ConfigurationError: there is no match within 400 periods.
        """
        at = after + 1
        for _ in range(_PERIODS):
            period = self.zone.period(at)
            found = [match for match in (self._regular(at, period), self._in_gap(at, period)) if match is not None]
            if found:
                return min(found)
            at = period.end
        raise ConfigurationError(f"expr={self.cron.expression!r} never matches under gap={self.gap!r}, {self.fold=}")

    def count(self, after: int, until: int) -> int:
        """Return the number of matches later than `after`, up to `until`, without visiting them."""
        found, at = 0, after + 1
        while at <= until:
            period = self.zone.period(at)
            gap_end = period.start + max(period.offset - period.before, 0)
            if self.gap == "next" and at <= period.start:
                found += self.next(period.start - 1) == period.start  # a time in the gap and a regular one coincide
                at = period.start + 1
            elif self.gap == "shift" and at < gap_end:
                while at <= min(until, gap_end - 1):
                    at = self.next(at - 1) + 1
                    found += at <= min(until, gap_end - 1) + 1
                at = min(at, gap_end)
            first, end = self._regular_range(at, period)
            found += self.cron.count(first + period.offset - 1, min(end - 1, until) + period.offset)
            at = period.end
        return found

    def _regular(self, at: int, period: Period) -> int | None:
        """Return the first match from `at` on among the wall times of the period."""
        at, end = self._regular_range(at, period)
        match = self.cron.next(at + period.offset - 1) - period.offset
        return match if match < end else None

    def _regular_range(self, at: int, period: Period) -> tuple[int, int]:
        """Return the first second, from `at` on, and the end of those whose wall times count."""
        end = period.end
        if self.fold == "first" and period.offset < period.before:
            at = max(at, period.start + period.before - period.offset)  # omit the second pass of the repeated times
        if self.fold == "last" and period.after < period.offset:
            end -= period.offset - period.after  # omit the first pass
        return at, end

    def _in_gap(self, at: int, period: Period) -> int | None:
        """Return the first time from `at` on that the policy assigns to a match in the gap before the period."""
        gap = period.offset - period.before
        if self.gap == "skip" or at >= period.start + max(gap, 0):
            return None
        if self.gap == "next" and at > period.start:
            return None
        match = self.cron.next(at + period.before - 1) - period.before
        if match >= min(period.start + gap, period.end):
            return None
        return period.start if self.gap == "next" else match
