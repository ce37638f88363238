"""Times are whole microseconds since the Unix epoch, in UTC; here they meet datetimes, seconds and run ids."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from functools import lru_cache

SECOND = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def micros(seconds: float) -> int:
    """Seconds as whole microseconds."""
    return round(seconds * SECOND)


def micros_of(when: datetime) -> int:
    """An aware datetime as microseconds since the epoch, exactly."""
    return (when - _EPOCH) // _MICROSECOND


def moment(at: int) -> datetime:
    """The datetime, in UTC, of microseconds since the epoch."""
    return _EPOCH + timedelta(microseconds=at)


def run_id_of(schedule: str, nominal: int) -> str:
    """The id of the run of a schedule's nominal time: a function of these two, the same in every process."""
    return f"{schedule}@{_text(nominal)}"


@lru_cache(maxsize=256)
def _text(at: int) -> str:
    return f"{moment(at).replace(tzinfo=None).isoformat()}Z"  # many schedules are due at one time


def nominal_of(run_id: str) -> datetime | None:
    """The nominal time that `run_id_of` put into a run id; None for other ids."""
    text = run_id.rpartition("@")[2]
    if not text.endswith("Z"):
        return None
    try:
        return datetime.fromisoformat(text[:-1]).replace(tzinfo=UTC)
    except ValueError:
        return None


def spread(schedule: str, nominal: int, width: int) -> int:
    """A delay below `width` microseconds that depends on its arguments alone, so that replicas agree."""
    if width <= 0:
        return 0
    digest = hashlib.blake2b(f"{schedule}@{nominal}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) % width
