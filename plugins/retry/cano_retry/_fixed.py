"""`Fixed`: equal delays."""

from __future__ import annotations

from collections.abc import Iterator

from cano.options import Seconds

from cano_retry import _check
from cano_retry._budget import RetryBudget
from cano_retry._match import Match
from cano_retry._strategy import Strategy


class Fixed(Strategy):
    """A strategy with the same delay before each retry.

    Args:
        retries: the largest number of retries (int); 3 means four attempts. None: no limit.
        delay: seconds, or a timedelta, before each retry, 0 or more. The attribute is named `seconds`.
        retry_on: retry only these errors: an exception type, a tuple of types, or a function error -> bool. Types also
            match an exception group if they match all its errors.
            By default all errors but programming errors, such as TypeError and KeyNotFoundError.
        give_up_on: never retry these errors; takes precedence over `retry_on`. Types also match an exception group if
            they match any of its errors.
        max_elapsed: give up if the next attempt would begin more than this many seconds after the first one began.
        after_hint: whether to wait as long as the error's `retry_after` (seconds, int or float), if it has one,
            instead of `delay`.
        budget: a shared `RetryBudget`. Each retry takes one token; without a token the strategy gives up.

    Raises:
        ConfigurationError: an argument is out of range or of a wrong type.
    """

    __slots__ = ("seconds",)

    seconds: float

    def __init__(
        self,
        retries: int | None,
        delay: Seconds,
        *,
        retry_on: Match | None = None,
        give_up_on: Match | None = None,
        max_elapsed: Seconds | None = None,
        after_hint: bool = True,
        budget: RetryBudget | None = None,
    ) -> None:
        retries = _check.retries("retries", retries)
        super().__init__(retries, retry_on, give_up_on, max_elapsed, after_hint, budget)
        self._set_fields(seconds=_check.seconds("delay", delay))

    def _next_delay(self, attempt: int, error: Exception, elapsed: float, hint: float | None) -> float:
        return self.seconds if hint is None else hint

    def _repr_arguments(self) -> Iterator[tuple[str, object]]:
        yield "retries", self.max_retries
        yield "delay", self.seconds
        yield from super()._repr_arguments()
