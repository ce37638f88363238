"""Backing off: how long a schedule whose runs fail is left alone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from cano import RetryStrategy
from cano.options import refuse

from cano_scheduler import _check
from cano_scheduler._times import SECOND

LONGEST = 3600.0
"""Seconds beyond which a pause that doubles grows no more, unless it begins longer."""


class Doubling:
    """Pauses that begin at some seconds and double with every failure in a row, up to an hour.

    Args:
        first: seconds after the first failure.
    """

    def __init__(self, first: float) -> None:
        self._first = first

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """Seconds to pause after `attempt` failures in a row."""
        return min(self._first * 2.0 ** min(attempt - 1, 64), max(LONGEST, self._first))


def strategy(value: Any) -> RetryStrategy | None:
    """What `backoff=` stands for."""
    if value is None:
        return None
    if isinstance(value, int | float | timedelta) and not isinstance(value, bool):
        return Doubling(_check.duration("backoff", value) / SECOND)
    if isinstance(value, type) or not isinstance(value, RetryStrategy):
        refuse("backoff", value, "seconds, a timedelta or a retry strategy (an object with a delay() method)")
    return value
