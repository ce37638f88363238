"""Errors that say themselves when to try again."""

from __future__ import annotations

import math


def hint_of(error: Exception) -> float | None:
    """Seconds that `error.retry_after` asks to wait, or None where it does not say, or nothing sensible.

    Of an exception group that does not say itself, the longest that any of its errors asks for.
    """
    hint: object = getattr(error, "retry_after", None)
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
