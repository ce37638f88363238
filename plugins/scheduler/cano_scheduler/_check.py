"""Checks of arguments, made when a schedule is added, so that errors appear before it is due."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cano import Key, isolate
from cano.options import instant, refuse

from cano_scheduler._times import LAST, SECOND, micros, micros_of
from cano_scheduler._zone import Zone, zone_of

_LONGEST = 100 * 366 * 86_400.0


def duration(name: str, value: object, least: int = 1) -> int:
    """Return `value`, seconds or a timedelta, in microseconds."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds <= _LONGEST:
        found = micros(seconds)
        if least <= found:
            return found
    refuse(name, value, f"seconds or a timedelta, {'at least' if least == 0 else 'above'} 0 and at most 100 years")


def choice(name: str, value: object, allowed: Iterable[str]) -> Any:
    """Return `value` if it is one of `allowed`."""
    allowed = tuple(allowed)
    if isinstance(value, str) and value in allowed:
        return value
    refuse(name, value, f"one of {', '.join(map(repr, allowed))}")


def name(field: str, value: object) -> str:
    """Return `value` if it can be an id: printable text without "@", and without spaces at either end."""
    if isinstance(value, str) and value and value.strip() == value and value.isprintable() and "@" not in value:
        return value
    refuse(field, value, "a non-empty printable string without '@' and without spaces at either end")


def aware(field: str, value: object) -> int:
    """Return `value`, an aware datetime or seconds since the epoch, in microseconds."""
    at = instant(field, value)
    if at + _LONGEST >= LAST / SECOND:  # with a jitter, it would be a time that no datetime has
        refuse(field, value, "a time at least 100 years before the year 10000")
    if isinstance(value, datetime):
        return micros_of(value)  # exactly
    if at < 0:
        refuse(field, value, "a datetime with a time zone, or seconds since the epoch")
    return micros(at)


def zone(value: object) -> Zone:
    """Return the time zone with the name `value`."""
    key = value.key if isinstance(value, ZoneInfo) else value
    if isinstance(key, str) and key:
        try:
            return zone_of(key)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            pass
    refuse("tz", value, "the name of a time zone, such as 'Europe/Berlin'")


def data(field: str, value: object) -> dict[str, Any] | None:
    """Return a copy of `value` if it can be the data of a run."""
    if value is None:
        return None
    if not isinstance(value, Mapping) or not all(isinstance(key, str | Key) for key in value):
        refuse(field, value, "a mapping whose keys are strings")
    if any(str(key).startswith("\0") for key in value):
        refuse(field, value, "a mapping without a key that begins with NUL")
    return {str(key): isolate(item) for key, item in value.items()}
