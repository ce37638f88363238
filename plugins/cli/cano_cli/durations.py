"""Durations as options: a number of seconds, or numbers with units."""

from __future__ import annotations

import re
from contextlib import suppress

import click
from cano.options import positive_seconds

_UNITS = {"w": 604_800.0, "d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "": 1.0}
_PART = re.compile(r"(\d+\.?\d*|\.\d+)\s*(w|d|h|m|s|)")

METAVAR = "DURATION"


def duration(value: str) -> float:
    """Return the value of an option in seconds, if it is positive: `90`, `90s`, `1.5h`, `2h30m` or `7d`."""
    text = value.strip().lower()
    parts = _PART.findall(text)
    # one number may have no unit; "1 30" means nothing
    if len(parts) == 1 or all(unit for _, unit in parts):
        left = _PART.sub("", text).strip()
        with suppress(ValueError):
            if not left:
                return positive_seconds("it", sum(float(number) * _UNITS[unit] for number, unit in parts))
    raise click.BadParameter(f"{value!r} is not a positive number of seconds, or a duration such as 15m, 2h30m or 7d")
