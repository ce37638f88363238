"""Formatting of times and durations."""

from __future__ import annotations

from datetime import datetime


def when(seconds: float) -> str:
    """Format a time for people, in the local time zone."""
    return _local(seconds).isoformat(sep=" ", timespec="seconds")


def iso(seconds: float | None) -> str | None:
    """Format a time for programs: ISO 8601 with an offset."""
    return None if seconds is None else _local(seconds).isoformat()


def show_seconds(seconds: float) -> str:
    """Format a duration for people."""
    if seconds < 120:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def _local(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds).astimezone()
