"""No retries."""

from __future__ import annotations

from cano_retry._value import Value


class NoRetry(Value):
    """Gives up after the first failed attempt.

    Attributes:
        max_retries: 0.
    """

    __slots__ = ()

    max_retries = 0
    uses_elapsed = False

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """None: give up.

        Args:
            attempt: the attempt that has just failed, counted from 1.
            error: what it raised.
            elapsed: seconds since the step's first attempt began.
        """
        return None
