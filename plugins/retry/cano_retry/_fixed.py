"""The same pause every time."""

from __future__ import annotations

from collections.abc import Iterator

from cano_retry import _check
from cano_retry._budget import RetryBudget
from cano_retry._match import Match
from cano_retry._strategy import Strategy


class Fixed(Strategy):
    """Waits equally long before each retry.

    Args:
        retries: how many retries, at most (int); one more attempt than that is made. None is no limit.
        delay: seconds before each of them (float), 0 or more. Kept as `seconds`.
        retry_on: retry only these errors: an exception type, a tuple of types, or a function error -> bool.
            Types also match an exception group that holds nothing else.
        give_up_on: never retry these errors, whatever `retry_on` says. Types also match an exception group
            that holds one.
        max_elapsed: seconds since the first attempt began; a retry that would begin later is not made.
        after_hint: wait as long as the error's `retry_after` says (seconds, int or float), where it has one,
            instead of `delay`.
        budget: a `RetryBudget` that each retry takes a token from; with none left the strategy gives up.

    Raises:
        ConfigurationError: an argument is out of its range or of a wrong type.
    """

    __slots__ = ("seconds",)

    seconds: float

    def __init__(
        self,
        retries: int | None,
        delay: float,
        *,
        retry_on: Match | None = None,
        give_up_on: Match | None = None,
        max_elapsed: float | None = None,
        after_hint: bool = True,
        budget: RetryBudget | None = None,
    ) -> None:
        retries = _check.retries("retries", retries)
        super().__init__(retries, retry_on, give_up_on, max_elapsed, after_hint, budget)
        self._fill(seconds=_check.seconds("delay", delay))

    def _pause(self, attempt: int, error: Exception, elapsed: float, hint: float | None) -> float:
        return self.seconds if hint is None else hint

    def _shown(self) -> Iterator[tuple[str, object]]:
        yield "retries", self.max_retries
        yield "delay", self.seconds
        yield from super()._shown()
