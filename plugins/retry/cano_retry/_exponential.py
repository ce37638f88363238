"""`Exponential`: increasing delays."""

from __future__ import annotations

import random as _random
import sys
from collections.abc import Callable, Iterator
from typing import Protocol

from cano.options import Seconds

from cano_retry import _check
from cano_retry._budget import RetryBudget
from cano_retry._match import Match
from cano_retry._strategy import Strategy


class _HasRandom(Protocol):
    def random(self) -> float: ...


class Exponential(Strategy):
    """A strategy with exponential backoff and jitter.

    After failed attempt n (counted from 1) it waits `min(base_delay * multiplier ** (n - 1), max_delay)` seconds, times
    a uniform random factor from `1 - jitter` to `1 + jitter`. So runs that failed together do not retry together.
    `max_delay` applies before the factor.

    Args:
        max_retries: the largest number of retries (int); 3 means four attempts. None: no limit.
        base_delay: seconds, or a timedelta, before the first retry, 0 or more.
        multiplier: the factor by which each delay is longer than the one before (float), 1 or more.
        max_delay: the longest delay, `base_delay` or more.
        jitter: the fraction by which a delay may be shorter or longer (float), from 0 to 1.
        random: the source of the random factor: a `random.Random`, or a function that returns floats from 0 to below
            1. None: the `random` module.
        retry_on: retry only these errors: an exception type, a tuple of types, or a function error -> bool. Types also
            match an exception group if they match all its errors.
            By default all errors but programming errors, such as TypeError and KeyNotFoundError.
        give_up_on: never retry these errors; takes precedence over `retry_on`. Types also match an exception group if
            they match any of its errors.
        max_elapsed: give up if the next attempt would begin more than this many seconds after the first one began.
        after_hint: whether to wait exactly as long as the error's `retry_after` (seconds, int or float), if it has
            one, even beyond `max_delay`, because an earlier retry would only be rejected again.
        budget: a shared `RetryBudget`. Each retry takes one token; without a token the strategy gives up.

    Raises:
        ConfigurationError: an argument is out of range or of a wrong type.
    """

    __slots__ = ("base_delay", "jitter", "max_delay", "multiplier", "random")

    base_delay: float
    multiplier: float
    max_delay: float
    jitter: float
    random: Callable[[], float] | None

    def __init__(
        self,
        max_retries: int | None = 3,
        base_delay: Seconds = 0.1,
        multiplier: float = 2.0,
        max_delay: Seconds = 30.0,
        jitter: float = 0.1,
        *,
        random: _HasRandom | Callable[[], float] | None = None,
        retry_on: Match | None = None,
        give_up_on: Match | None = None,
        max_elapsed: Seconds | None = None,
        after_hint: bool = True,
        budget: RetryBudget | None = None,
    ) -> None:
        max_retries = _check.retries("max_retries", max_retries)
        super().__init__(max_retries, retry_on, give_up_on, max_elapsed, after_hint, budget)
        base = _check.seconds("base_delay", base_delay)
        longest = f"a finite number of seconds, at least the base_delay of {base!r}"
        growth = "a finite number, 1 or more"
        self._set_fields(
            base_delay=base,
            multiplier=_check.number("multiplier", multiplier, growth, lambda x: x >= 1),
            max_delay=_check.number("max_delay", _check.in_seconds(max_delay), longest, lambda x: x >= base),
            jitter=_check.number("jitter", jitter, "a number from 0 to 1", lambda x: 0 <= x <= 1),
            random=_random_function(random),
        )

    def _next_delay(self, attempt: int, error: Exception, elapsed: float, hint: float | None) -> float:
        if hint is not None:
            return hint
        delay = self._unjittered(attempt)
        if not self.jitter:
            return delay
        draw = (self.random or _random.random)()
        # max_delay may be the largest float to mean "no limit", and the factor must not make it infinite
        return min(delay * (1 + self.jitter * (2 * draw - 1)), sys.float_info.max)

    def _unjittered(self, attempt: int) -> float:
        # without growth there is no need for the power, which could overflow
        if self.base_delay == 0 or self.multiplier == 1:
            return self.base_delay
        try:
            return min(self.base_delay * self.multiplier ** (attempt - 1), self.max_delay)
        except OverflowError:
            return self.max_delay

    def _repr_arguments(self) -> Iterator[tuple[str, object]]:
        for name in ("max_retries", "base_delay", "multiplier", "max_delay", "jitter"):
            yield name, getattr(self, name)
        if self.random is not None:
            yield "random", self.random
        yield from super()._repr_arguments()


def _random_function(random: object) -> object:
    if random is None:
        return None
    draw = random if callable(random) else getattr(random, "random", random)
    _check.function("random", draw, "a random.Random, a function that returns floats, or None")
    return draw
