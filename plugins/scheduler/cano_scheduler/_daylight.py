"""Cron in a time zone: what happens to wall times that do not exist, or exist twice.

The periods between two changes of the clocks are gone through one by one, in UTC. Inside a period each moment has one
wall time and the other way round, so that only the edges need a policy.
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
    """The moments at which a cron expression matches in a zone.

    Args:
        cron: the expression.
        zone: the zone.
        gap: a matching wall time that does not exist counts at the first moment after the gap ("next"), not at all
            ("skip"), or as much later as the clocks were put forward ("shift").
        fold: of a matching wall time that exists twice, count the first, the last, or both.
    """

    def __init__(self, cron: Cron, zone: Zone, gap: Gap, fold: Fold) -> None:
        self.cron = cron
        self.zone = zone
        self.gap = gap
        self.fold = fold

    def next(self, after: int) -> int:
        """The first match later than `after`, in seconds since the epoch.

        Raises:
            ConfigurationError: there is none within four centuries' changes of the clocks.
        """
        at = after + 1
        for _ in range(_PERIODS):
            period = self.zone.period(at)
            found = [match for match in (self._regular(at, period), self._displaced(at, period)) if match is not None]
            if found:
                return min(found)
            at = period.end
        raise ConfigurationError(f"expr={self.cron.expression!r} never matches under gap={self.gap!r}, {self.fold=}")

    def _regular(self, at: int, period: Period) -> int | None:
        """The first match of the period's own wall clock from `at` on."""
        end = period.end
        if self.fold == "first" and period.offset < period.before:
            at = max(at, period.start + period.before - period.offset)  # the second pass through the repeated times
        if self.fold == "last" and period.after < period.offset:
            end -= period.offset - period.after  # the first pass
        match = self.cron.next(at + period.offset - 1) - period.offset
        return match if match < end else None

    def _displaced(self, at: int, period: Period) -> int | None:
        """The first match from `at` on that stands for a wall time in the gap before the period."""
        gap = period.offset - period.before
        if self.gap == "skip" or at >= period.start + max(gap, 0):
            return None
        if self.gap == "next" and at > period.start:
            return None
        match = self.cron.next(at + period.before - 1) - period.before
        if match >= min(period.start + gap, period.end):
            return None
        return period.start if self.gap == "next" else match
