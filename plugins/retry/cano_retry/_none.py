"""`NoRetry`: no retries."""

from __future__ import annotations

from cano_retry._value import Value


class NoRetry(Value):
    """A strategy that gives up after the first failed attempt.

    Attributes:
        max_retries: 0.
    """

    __slots__ = ()

    max_retries = 0
    uses_elapsed = False

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """Return None, which means to give up.

        Args:
            attempt: the number of the failed attempt, from 1.
            error: the exception that the attempt raised.
            elapsed: seconds since the step's first attempt began.
        """
        return None
