"""Cron expressions, on a wall clock that knows no time zone: there croniter can be trusted."""

from __future__ import annotations

import re
from typing import Any

from cano import ConfigurationError

_HASHED = re.compile(r"[rh](\(.*\))?", re.IGNORECASE)
_NEAREST = re.compile(r"\d+w|lw|wl", re.IGNORECASE)
_WEEKDAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_MONTHS = ["", "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_ORDER = "second minute hour day month weekday; without the second there are five"


class Cron:
    """The matching times of an expression of five fields, or of six with the seconds first.

    Args:
        expression: such as `*/5 * * * *`, `0 0 9 * * MON-FRI` or `@daily`.

    Attributes:
        expression: with its blanks normalised.
        elastic: whether minute or hour begin with `*`: it then counts time that passes rather than naming a time of
            day, which is classic cron's rule for what daylight saving does to it.

    Raises:
        ConfigurationError: it is no expression, never matches, or has a part that means another time in each process.
    """

    def __init__(self, expression: str) -> None:
        from croniter.croniter import CroniterError, croniter  # every kernel imports this plugin: it is to be quick

        if not isinstance(expression, str) or not expression.strip():
            raise _wrong(expression, f"it must be a cron expression: {_ORDER}")
        fields = expression.split()
        self.expression = " ".join(fields)
        if not fields[0].startswith("@") and len(fields) not in (5, 6):
            raise _wrong(expression, f"it has {len(fields)} field(s): {_ORDER}")
        for part in re.split(r"[\s,/]", self.expression):
            if _HASHED.fullmatch(part):
                raise _wrong(expression, f"{part!r} stands for a random time; use jitter= instead")
            if _NEAREST.fullmatch(part):
                raise _wrong(expression, f"{part!r} (the nearest weekday) is not supported")
        if len(fields) > 1:
            *others, month, weekday = fields
            fields = [*map(_plain, others), _plain(month, _MONTHS), _plain(weekday, _WEEKDAYS)]
        try:
            self._matches: Any = croniter(" ".join(fields), 0.0, float, second_at_beginning=len(fields) == 6)
            self._matches.get_next()
        except (CroniterError, ValueError, KeyError, IndexError, AttributeError) as error:
            raise _wrong(expression, f"{error}; the fields are {_ORDER}") from error
        minute, hour = self._matches.expressions[:2]
        self.elastic = minute.startswith("*") or hour.startswith("*")

    def next(self, wall: int) -> int:
        """The first match after `wall`; both are seconds since the epoch, as if the wall clock showed UTC."""
        self._matches.set_current(float(wall), force=True)
        match: float = self._matches.get_next()
        return round(match)

    def __repr__(self) -> str:
        return f"Cron({self.expression!r})"


def _plain(field: str, names: list[str] = []) -> str:  # noqa: B006  # never changed
    """`field` with names as numbers, and without ranges of one value: croniter takes those for everything."""
    parts = []
    for part in field.lower().split(","):
        span, slash, step = part.partition("/")
        ends = [str(names.index(end)) if end and end in names else end for end in span.split("-")]
        if len(ends) == 2 and (ends[0] == ends[1] or (names is _WEEKDAYS and ends == ["7", "0"])):
            ends, slash, step = ends[:1], "", ""
        parts.append("-".join(ends) + slash + step)
    return ",".join(parts)


def _wrong(expression: object, why: str) -> ConfigurationError:
    return ConfigurationError(f"expr={expression!r}: {why}")
