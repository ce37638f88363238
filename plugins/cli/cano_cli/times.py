"""Formatting of times and durations."""

from __future__ import annotations

import math
from datetime import datetime


def when(seconds: float) -> str:
    """Format a time for people, in the local time zone. A time outside of the calendar is shown as a number."""
    local = _local(seconds)
    return f"{seconds!r} s (not a date)" if local is None else local.isoformat(sep=" ", timespec="seconds")


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
