"""A limit on retries that many tasks share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from cano_retry import _check


class RetryBudget:
    """Stops retry storms: a token bucket that all its users' retries draw from.

    When a service is down, every run that needs it fails, and if each is retried three times the service sees
    four times the load at the worst moment. Give one budget to all strategies that call it: the bucket starts
    full, each retry takes a token, tokens come back at a steady rate, and while there is none, failures are
    final at once. So within any t seconds at most `tokens + refill_per_second * t` retries are made, and
    first attempts are never held back.

    The rate is per second and not a share of the calls made, since a strategy hears of failures only. A token
    that was taken is not given back when something else then forbids the retry, such as the `max_elapsed` of
    a chain around the strategy or the `total_timeout` of the task.

    A budget may be used from any number of runs and threads of one process; other processes have their own.

    Args:
        tokens: how many retries can be made at once (int), 1 or more.
        refill_per_second: how many tokens come back each second (float), 0 or more. With 0 there are never
            more retries than `tokens`.
        clock: a function that gives monotonic seconds (float), such as a kernel clock's `monotonic`.

    Raises:
        ConfigurationError: an argument is out of its range or of a wrong type.
    """

    __slots__ = ("_clock", "_level", "_lock", "_refill", "_since", "_tokens")

    def __init__(self, tokens: int, refill_per_second: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._tokens = _check.whole("tokens", tokens, "a whole number, 1 or more", 1)
        self._refill = _check.number(
            "refill_per_second", refill_per_second, "a finite number, 0 or more", lambda given: given >= 0
        )
        _check.function("clock", clock, "a function that returns monotonic seconds")
        self._clock = clock
        self._lock = threading.Lock()
        self._level = float(tokens)
        self._since = clock()

    @property
    def tokens(self) -> int:
        """How many retries can be made at once."""
        return self._tokens

    @property
    def refill_per_second(self) -> float:
        """How many tokens come back each second."""
        return self._refill

    @property
    def available(self) -> float:
        """Tokens that are there now. Another thread may take them before you do."""
        with self._lock:
            return self._level_at(self._clock())

    def take(self) -> bool:
        """Take one token, if there is one. Never waits; whether it was taken."""
        with self._lock:
            now = self._clock()
            level = self._level_at(now)
            # a refusal changes nothing: adding up many small refills would lose some to rounding
            if level < 1:
                return False
            self._level = level - 1
            self._since = max(self._since, now)
            return True

    def _level_at(self, now: float) -> float:
        # a clock that went back adds nothing, and takes nothing away
        return min(self._level + max(now - self._since, 0.0) * self._refill, float(self._tokens))

    def __repr__(self) -> str:
        return f"RetryBudget(tokens={self._tokens}, refill_per_second={self._refill})"
