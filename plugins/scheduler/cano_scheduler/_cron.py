"""Cron expressions on a wall clock without time zone. croniter is used only there, because it is reliable there."""

from __future__ import annotations

import re
from bisect import bisect_left
from datetime import date
from functools import lru_cache
from typing import Any

from cano import ConfigurationError

_HASHED = re.compile(r"[rh](\(.*\))?", re.IGNORECASE)
_NEAREST = re.compile(r"\d+w|lw|wl", re.IGNORECASE)
_WEEKDAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_MONTHS = ["", "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAY = 86_400
_EPOCH = date(1970, 1, 1).toordinal()
_ORDER = "second minute hour day month weekday; without the second there are five"


class Cron:
    """A cron expression of five fields, or of six with the seconds first.

    If both day and weekday are given, either may match; but both must match if one of them begins with `*`, as in the
    cron daemons.

    Args:
        expression: such as `*/5 * * * *`, `0 0 9 * * MON-FRI` or `@daily`.

    Attributes:
        expression: the expression with single spaces.
        elastic: whether the minute or the hour field begins with `*`. As in classic cron, it then counts elapsed time
            and does not name a time of day, which decides the default policies for daylight saving.

    Raises:
        ConfigurationError: the expression is invalid, never matches, or has a part that differs between processes.
    """

    def __init__(self, expression: str) -> None:
        from croniter.croniter import CroniterError, croniter  # late, because every kernel imports this plugin

        if not isinstance(expression, str) or not expression.strip():
            raise _wrong(expression, f"it must be a cron expression: {_ORDER}")
        fields = expression.split()
        self.expression = " ".join(fields)
        if not fields[0].startswith("@") and len(fields) not in (5, 6):
            raise _wrong(expression, f"it has {len(fields)} field(s): {_ORDER}")
        for part in re.split(r"[\s,/]", self.expression):
            if _HASHED.fullmatch(part):
                raise _wrong(expression, f"{part!r} means a random time; use jitter= instead")
            if _NEAREST.fullmatch(part):
                raise _wrong(expression, f"{part!r} (the nearest weekday) is not supported")
        if len(fields) > 1:
            *others, month, weekday = fields
            fields = [*map(_plain, others), _plain(month, _MONTHS), _plain(weekday, _WEEKDAYS)]
        try:
            self._matches: Any = croniter(
                " ".join(fields), 0.0, float, second_at_beginning=len(fields) == 6, implement_cron_bug=True
            )
            self._matches.get_next()
        except (CroniterError, ValueError, KeyError, IndexError, AttributeError) as error:
            raise _wrong(expression, f"{error}; the fields are {_ORDER}") from error
        minute, hour = self._matches.expressions[:2]
        self.elastic = minute.startswith("*") or hour.startswith("*")
        minutes, hours, _, _, _, seconds, *_ = (*self._matches.expanded, [0])
        self._times = _values(hours, 24), _values(minutes, 60), _values(seconds, 60)
        days = " ".join(["0", "0", *self._matches.expressions[2:5]])
        self._matching_days: Any = croniter(days, 0.0, float, implement_cron_bug=True)
        self._days = lru_cache(maxsize=128)(self._days_of_year)

    def next(self, wall: int) -> int:
        """Return the first match after `wall`. Both are seconds since the epoch, as if the wall clock showed UTC."""
        self._matches.set_current(float(wall), force=True)
        match: float = self._matches.get_next()
        return round(match)

    def count(self, after: int, until: int) -> int:
        """Return the number of matches after `after` up to `until`, without visiting them."""
        if until <= after:
            return 0
        first, last = (after + 1) // _DAY, until // _DAY
        found = self._days_between(first, last) * self._times_before(_DAY)
        if self._days_between(first, first + 1):
            found -= self._times_before(after + 1 - first * _DAY)
        if self._days_between(last, last + 1):
            found += self._times_before(until + 1 - last * _DAY)
        return found

    def _times_before(self, second: int) -> int:
        """Return the number of matching times of a day before that second of the day."""
        hours, minutes, seconds = self._times
        hour, minute = second // 3600, second // 60 % 60
        found = bisect_left(hours, hour) * len(minutes) * len(seconds)
        if hour in hours:
            found += bisect_left(minutes, minute) * len(seconds)
            if minute in minutes:
                found += bisect_left(seconds, second % 60)
        return found

    def _days_between(self, first: int, end: int) -> int:
        """Return the number of matching days from `first` to before `end`, both in days since the epoch."""
        if end <= first:
            return 0
        years = range(date.fromordinal(_EPOCH + first).year, date.fromordinal(_EPOCH + end - 1).year + 1)
        inner = sum(len(self._days(year)) for year in years[1:-1])
        edges = {years[0], years[-1]}
        return inner + sum(bisect_left(days, end) - bisect_left(days, first) for days in map(self._days, edges))

    def _days_of_year(self, year: int) -> list[int]:
        """Return the matching days of a year, in days since the epoch."""
        first, end = (date(number, 1, 1).toordinal() - _EPOCH for number in (year, year + 1))
        if self._matching_days.expressions[2:5] == ["*", "*", "*"]:
            return list(range(first, end))
        found = []
        self._matching_days.set_current(float(first * _DAY - 1), force=True)
        while (day := round(self._matching_days.get_next()) // _DAY) < end:
            found.append(day)
        return found

    def __repr__(self) -> str:
        return f"Cron({self.expression!r})"


def _plain(field: str, names: list[str] = []) -> str:  # noqa: B006  # never changed
    """Replace names by numbers, and ranges of one value by that value: croniter reads those as `*`."""
    parts = []
    for part in field.lower().split(","):
        span, slash, step = part.partition("/")
        ends = [str(names.index(end)) if end and end in names else end for end in span.split("-")]
        if len(ends) == 2 and (ends[0] == ends[1] or (names is _WEEKDAYS and ends == ["7", "0"])):
            ends, slash, step = ends[:1], "", ""
        parts.append("-".join(ends) + slash + step)
    return ",".join(parts)


def _values(field: list[Any], size: int) -> list[int]:
    """Return the values that a field of croniter's stands for."""
    return list(range(size)) if field == ["*"] else sorted(field)


def _wrong(expression: object, why: str) -> ConfigurationError:
    return ConfigurationError(f"expr={expression!r}: {why}")
