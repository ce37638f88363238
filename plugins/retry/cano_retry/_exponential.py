"""Pauses that grow."""

from __future__ import annotations

import random as _random
import sys
from collections.abc import Callable, Iterator
from typing import Protocol

from cano_retry import _check
from cano_retry._budget import RetryBudget
from cano_retry._match import Match
from cano_retry._strategy import Strategy


class _HasRandom(Protocol):
    def random(self) -> float: ...


class Exponential(Strategy):
    """Waits longer before each retry, up to a limit, and never quite as long as its neighbour does.

    After failed attempt n (counted from 1) it waits
    `min(base_delay * multiplier ** (n - 1), max_delay)` seconds, times a factor drawn evenly from
    `1 - jitter` to `1 + jitter`: so many runs that failed together do not come back together. The limit
    applies before the factor.

    Args:
        max_retries: how many retries, at most (int): with 3, four attempts are made. None is no limit.
        base_delay: seconds before the first retry (float), 0 or more.
        multiplier: what each pause is longer by than the one before (float), 1 or more.
        max_delay: the longest pause in seconds (float), `base_delay` or more.
        jitter: by which fraction a pause may be shorter or longer (float), 0 to 1.
        random: what the factor is drawn with: a `random.Random`, or any function that returns floats from 0
            to below 1. None takes the `random` module.
        retry_on: retry only these errors: an exception type, a tuple of types, or a function error -> bool.
            Types also match an exception group that holds nothing else.
        give_up_on: never retry these errors, whatever `retry_on` says. Types also match an exception group
            that holds one.
        max_elapsed: seconds since the first attempt began; a retry that would begin later is not made.
        after_hint: wait exactly as long as the error's `retry_after` says (seconds, int or float), where it
            has one, even beyond `max_delay`: who comes back earlier is only turned away again.
        budget: a `RetryBudget` that each retry takes a token from; with none left the strategy gives up.

    Raises:
        ConfigurationError: an argument is out of its range or of a wrong type.
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
        base_delay: float = 0.1,
        multiplier: float = 2.0,
        max_delay: float = 30.0,
        jitter: float = 0.1,
        *,
        random: _HasRandom | Callable[[], float] | None = None,
        retry_on: Match | None = None,
        give_up_on: Match | None = None,
        max_elapsed: float | None = None,
        after_hint: bool = True,
        budget: RetryBudget | None = None,
    ) -> None:
        max_retries = _check.retries("max_retries", max_retries)
        super().__init__(max_retries, retry_on, give_up_on, max_elapsed, after_hint, budget)
        base = _check.seconds("base_delay", base_delay)
        longest = f"a finite number of seconds, at least the base_delay of {base!r}"
        growth = "a finite number, 1 or more"
        self._fill(
            base_delay=base,
            multiplier=_check.number("multiplier", multiplier, growth, lambda x: x >= 1),
            max_delay=_check.number("max_delay", max_delay, longest, lambda x: x >= base),
            jitter=_check.number("jitter", jitter, "a number from 0 to 1", lambda x: 0 <= x <= 1),
            random=_source(random),
        )

    def _pause(self, attempt: int, error: Exception, elapsed: float, hint: float | None) -> float:
        if hint is not None:
            return hint
        pause = self._unjittered(attempt)
        if not self.jitter:
            return pause
        draw = (self.random or _random.random)()
        # the largest float as max_delay is a way to say "no limit", and infinity is no delay
        return min(pause * (1 + self.jitter * (2 * draw - 1)), sys.float_info.max)

    def _unjittered(self, attempt: int) -> float:
        # these two never reach the limit, however far the power overflows
        if self.base_delay == 0 or self.multiplier == 1:
            return self.base_delay
        try:
            return min(self.base_delay * self.multiplier ** (attempt - 1), self.max_delay)
        except OverflowError:
            return self.max_delay

    def _shown(self) -> Iterator[tuple[str, object]]:
        for name in ("max_retries", "base_delay", "multiplier", "max_delay", "jitter"):
            yield name, getattr(self, name)
        if self.random is not None:
            yield "random", self.random
        yield from super()._shown()


def _source(random: object) -> object:
    if random is None:
        return None
    draw = random if callable(random) else getattr(random, "random", random)
    _check.function("random", draw, "a random.Random, a function that returns floats, or None")
    return draw
