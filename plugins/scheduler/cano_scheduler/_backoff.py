"""Backoff: the pause of a schedule after failures."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from cano import RetryStrategy
from cano.options import refuse

from cano_scheduler import _check
from cano_scheduler._times import SECOND

MAX_DELAY = 3600.0
"""The limit in seconds for doubled delays; a longer first delay stays constant."""


class ExponentialBackoff:
    """A retry strategy whose delay doubles with each consecutive failure, up to an hour.

    Args:
        first: the delay after the first failure, in seconds.
    """

    def __init__(self, first: float) -> None:
        self._first = first

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """Return the delay in seconds after `attempt` consecutive failures."""
        return min(self._first * 2.0 ** min(attempt - 1, 64), max(MAX_DELAY, self._first))


def strategy(value: Any) -> RetryStrategy | None:
    """Convert the argument `backoff=` to a strategy. Raises ConfigurationError."""
    if value is None:
        return None
    if isinstance(value, int | float | timedelta) and not isinstance(value, bool):
        return ExponentialBackoff(_check.duration("backoff", value) / SECOND)
    if isinstance(value, type) or not isinstance(value, RetryStrategy):
        refuse("backoff", value, "seconds, a timedelta or a retry strategy (an object with a delay() method)")
    return value
