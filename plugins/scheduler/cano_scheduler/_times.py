"""Conversions between times (whole microseconds since the Unix epoch), datetimes, seconds and run ids."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from functools import lru_cache

SECOND = 1_000_000
LAST = 253_402_300_800 * SECOND  # the begin of the year 10000, which no datetime has
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def micros(seconds: float) -> int:
    """Convert seconds to whole microseconds."""
    return round(seconds * SECOND)


def micros_of(when: datetime) -> int:
    """Convert an aware datetime to microseconds since the epoch, exactly."""
    return (when - _EPOCH) // _MICROSECOND


def datetime_of(at: int) -> datetime:
    """Convert microseconds since the epoch to a datetime in UTC."""
    return _EPOCH + timedelta(microseconds=at)


def run_id_of(schedule: str, nominal: int) -> str:
    """Return the id of the run for a nominal time of a schedule. It is the same in every process."""
    return f"{schedule}@{_text(nominal)}"


@lru_cache(maxsize=256)
def _text(at: int) -> str:
    return f"{datetime_of(at).replace(tzinfo=None).isoformat()}Z"  # cached: many schedules share a due time


def nominal_of(run_id: str) -> datetime | None:
    """Return the nominal time in a run id from `run_id_of`; None for other ids."""
    text = run_id.rpartition("@")[2]
    if not text.endswith("Z"):
        return None
    try:
        return datetime.fromisoformat(text[:-1]).replace(tzinfo=UTC)
    except ValueError:
        return None


def jitter_of(schedule: str, nominal: int, width: int) -> int:
    """Return a delay below `width` microseconds. It depends only on the arguments, so all processes agree."""
    if width <= 0:
        return 0
    digest = hashlib.blake2b(f"{schedule}@{nominal}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) % width
