"""A time zone as periods with a constant offset from UTC. `zoneinfo` has no API for these periods."""

from __future__ import annotations

import calendar
from bisect import bisect_right
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

_STEP = 12 * 3600  # seconds; no zone changes its offset twice within this time


class Period(NamedTuple):
    """A period with a constant offset.

    Attributes:
        start, end: seconds since the epoch; `end` is exclusive.
        offset: seconds that the wall clock is ahead of UTC.
        before, after: the offsets of the previous and the next period.
    """

    start: int
    end: int
    offset: int
    before: int
    after: int


class Zone:
    """The periods of a time zone.

    Args:
        info: the zone.
    """

    def __init__(self, info: ZoneInfo) -> None:
        self.info = info
        self._changes = lru_cache(maxsize=64)(self._changes_of_year)

    def offset(self, at: int) -> int:
        """Return the seconds that the wall clock is ahead of UTC at `at`."""
        offset = datetime.fromtimestamp(at, UTC).astimezone(self.info).utcoffset()
        assert offset is not None
        return round(offset.total_seconds())

    def period(self, at: int) -> Period:
        """Return the period that contains `at`. A period with no change nearby is cut to about three years."""
        year = datetime.fromtimestamp(at, UTC).year
        changes = [change for near in (year - 1, year, year + 1) for change in self._changes(near)]
        index = bisect_right(changes, at)
        offset = self.offset(at)
        start = changes[index - 1] if index else _first_second(year - 1)
        end = changes[index] if index < len(changes) else _first_second(year + 2)
        return Period(start, end, offset, self.offset(start - 1), self.offset(end))

    def _changes_of_year(self, year: int) -> list[int]:
        changes, at, end = [], _first_second(year), _first_second(year + 1)
        offset = self.offset(at - 1)
        while at < end:
            following = self.offset(at)
            if following != offset:
                changes.append(self._first_of(following, at - _STEP - 1, at))
                offset = following
            at += _STEP
        return changes

    def _first_of(self, offset: int, low: int, high: int) -> int:
        """Return the first second with `offset` in (low, high]."""
        while high - low > 1:
            middle = (low + high) // 2
            if self.offset(middle) == offset:
                high = middle
            else:
                low = middle
        return high


def _first_second(year: int) -> int:
    return calendar.timegm((year, 1, 1, 0, 0, 0))


@lru_cache(maxsize=1024)
def zone_of(key: str) -> Zone:
    """Return the zone with the name `key`. Raises what `zoneinfo` raises."""
    return Zone(ZoneInfo(key))
