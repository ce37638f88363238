"""The `retry_after` of an error, such as a server's answer "too many requests"."""

from __future__ import annotations

import math


def hint_of(error: Exception) -> float | None:
    """Return `error.retry_after` in seconds, or None if it is missing or not a finite number, 0 or more.

    For an exception group without `retry_after`, return the longest one of its errors.
    """
    hint: object = getattr(error, "retry_after", None)
    if hint is None and not isinstance(error, ExceptionGroup):
        return None
    if isinstance(hint, int | float) and not isinstance(hint, bool):
        try:
            seconds = float(hint)
        except OverflowError:
            return None
        return seconds if math.isfinite(seconds) and seconds >= 0 else None
    if isinstance(error, ExceptionGroup):
        hints = (hint_of(inner) for inner in error.exceptions)
        return max((known for known in hints if known is not None), default=None)
    return None
