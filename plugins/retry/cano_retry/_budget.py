"""`RetryBudget`: a limit on retries that many tasks share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from cano_retry import _check


class RetryBudget:
    """A token bucket, shared by strategies, that prevents retry storms.

    If a service is down, every run that calls it fails. With three retries each, the service sees four times its usual
    load. Give one budget to all strategies for a service. The bucket starts full, each retry takes a token, and tokens
    are refilled at a steady rate. While there is no token, strategies give up at once. So within any t seconds at most
    `tokens + refill_per_second * t` retries are made. First attempts need no token.

    The rate is per second, not per call, because a strategy sees only failures. A token is not returned if something
    else then prevents the retry, such as the `max_elapsed` of a surrounding chain or the task's `total_timeout`.

    Safe to share between runs and threads of one process. Other processes have their own budgets.

    Args:
        tokens: number of retries that can be made at once (int), 1 or more.
        refill_per_second: tokens added per second (float), 0 or more. 0 limits all retries ever made to `tokens`.
        clock: a function that returns monotonic seconds (float), such as the `monotonic` of a kernel's clock.

    Raises:
        ConfigurationError: an argument is out of range or of a wrong type.
    """

    __slots__ = ("_clock", "_level", "_lock", "_refill", "_tokens", "_updated")

    def __init__(self, tokens: int, refill_per_second: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._tokens = _check.whole("tokens", tokens, "a whole number, 1 or more", 1)
        self._refill = _check.number(
            "refill_per_second", refill_per_second, "a finite number, 0 or more", lambda given: given >= 0
        )
        _check.function("clock", clock, "a function that returns monotonic seconds")
        self._clock = clock
        self._lock = threading.Lock()
        self._level = float(tokens)
        self._updated = clock()

    @property
    def tokens(self) -> int:
        """The number of retries that can be made at once."""
        return self._tokens

    @property
    def refill_per_second(self) -> float:
        """The number of tokens added per second."""
        return self._refill

    @property
    def available(self) -> float:
        """The number of tokens now. Another thread may take them before you do."""
        with self._lock:
            return self._level_at(self._clock())

    def take(self) -> bool:
        """Take one token, if there is one. Return whether there was. Never waits."""
        with self._lock:
            now = self._clock()
            level = self._level_at(now)
            # a refusal stores nothing, because adding many small refills would accumulate rounding errors
            if level < 1:
                return False
            self._level = level - 1
            self._updated = max(self._updated, now)
            return True

    def _level_at(self, now: float) -> float:
        # if the clock goes back, no tokens are added or removed
        return min(self._level + max(now - self._updated, 0.0) * self._refill, float(self._tokens))

    def __repr__(self) -> str:
        return f"RetryBudget(tokens={self._tokens}, refill_per_second={self._refill})"
