"""`WithBudget`: adds a retry budget to any strategy."""

from __future__ import annotations

from collections.abc import Iterator

from cano import RetryStrategy
from cano.options import refuse

from cano_retry import _check
from cano_retry._budget import RetryBudget
from cano_retry._chain import max_retries_of
from cano_retry._value import Value


class WithBudget(Value):
    """A strategy that takes a token of a budget for each retry of another strategy, and gives up without one.

    The strategies of this package accept `budget=` themselves. This is for strategies of other packages.

    Args:
        strategy: a retry strategy.
        budget: a shared `RetryBudget`.

    Attributes:
        max_retries: the strategy's largest number of retries, or None if it is unknown or unlimited.

    Raises:
        ConfigurationError: `strategy` is not a retry strategy, or `budget` is not a RetryBudget.
    """

    __slots__ = ("budget", "max_retries", "strategy")

    strategy: RetryStrategy
    budget: RetryBudget
    max_retries: int | None

    def __init__(self, strategy: RetryStrategy, budget: RetryBudget) -> None:
        _check.strategy("strategy", strategy)
        if not isinstance(budget, RetryBudget):
            refuse("budget", budget, "a RetryBudget")
        self._set_fields(strategy=strategy, budget=budget, max_retries=max_retries_of(strategy))

    @property
    def uses_elapsed(self) -> bool:
        """Whether the strategy reads the elapsed time."""
        return bool(getattr(self.strategy, "uses_elapsed", True))

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """Return the seconds to wait before the next attempt, or None to give up.

        Args:
            attempt: the number of the failed attempt, from 1.
            error: the exception that the attempt raised.
            elapsed: seconds since the step's first attempt began.
        """
        delay = self.strategy.delay(attempt, error, elapsed)
        if delay is None or not self.budget.take():
            return None
        return delay

    def _repr_arguments(self) -> Iterator[tuple[str, object]]:
        yield "strategy", self.strategy
        yield "budget", self.budget
