"""Formatting of times and durations."""

from __future__ import annotations

import math
import time
from datetime import datetime

_UNITS = ((86_400, "day", 171_000), (3_600, "hour", 3_570), (60, "minute", 59.5), (1, "second", 0.5))
"""Each unit in seconds, with the seconds from which on it is used: 47 hours say more than 2 days."""


def when(seconds: float) -> str:
    """Format a time for people, in the local time zone and relative to now.

    A time outside of the calendar is shown as a number.
    """
    return clock(seconds) if _local(seconds) is None else f"{clock(seconds)} ({relative(seconds)})"


def clock(seconds: float) -> str:
    """Format a time for people, in the local time zone."""
    local = _local(seconds)
    return f"{seconds!r} s (not a date)" if local is None else local.isoformat(sep=" ", timespec="seconds")


def relative(seconds: float, now: float | None = None) -> str:
    """Format a time for people, relative to now: `in 3 days`, `5 minutes ago`, `now`."""
    if _local(seconds) is None:
        return f"{seconds!r} s (not a date)"
    away = seconds - (time.time() if now is None else now)
    for length, unit, least in _UNITS:
        if abs(away) >= least:
            count = round(abs(away) / length)
            text = f"{count} {unit}" + ("" if count == 1 else "s")
            return f"in {text}" if away > 0 else f"{text} ago"
    return "now"


def iso(seconds: float | None) -> str | None:
    """Format a time for programs: ISO 8601 with an offset, or for a time outside of the calendar, its seconds."""
    local = None if seconds is None else _local(seconds)
    return local.isoformat() if local is not None else None if seconds is None else repr(seconds)


def show_seconds(seconds: float) -> str:
    """Format a duration for people."""
    if seconds < 120 or not math.isfinite(seconds):
        return f"{seconds:.2f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def _local(seconds: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds).astimezone()
    except (ValueError, OverflowError, OSError):  # NaN, infinite, or beyond the years 1 to 9999
        return None
