"""A budget for a strategy that has no place for one."""

from __future__ import annotations

from collections.abc import Iterator

from cano import RetryStrategy

from cano_retry import _check
from cano_retry._budget import RetryBudget
from cano_retry._chain import retries_of
from cano_retry._value import Value


class WithBudget(Value):
    """Any strategy, as long as the budget lasts: each retry takes a token, and with none left it gives up.

    The strategies of this package take `budget=` themselves; this is for those from elsewhere.

    Args:
        strategy: a retry strategy.
        budget: the `RetryBudget`, to be shared with others.

    Attributes:
        max_retries: how many retries the strategy grants at most, where it says so, else None.

    Raises:
        ConfigurationError: `strategy` is no retry strategy, or `budget` no budget.
    """

    __slots__ = ("budget", "max_retries", "strategy")

    strategy: RetryStrategy
    budget: RetryBudget
    max_retries: int | None

    def __init__(self, strategy: RetryStrategy, budget: RetryBudget) -> None:
        _check.strategy("strategy", strategy)
        if not isinstance(budget, RetryBudget):
            _check.refuse("budget", budget, "a RetryBudget")
        self._fill(strategy=strategy, budget=budget, max_retries=retries_of(strategy))

    @property
    def uses_elapsed(self) -> bool:
        """Whether the elapsed time matters to the strategy."""
        return bool(getattr(self.strategy, "uses_elapsed", True))

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """Seconds to wait before the next attempt, or None to give up.

        Args:
            attempt: the attempt that has just failed, counted from 1.
            error: what it raised.
            elapsed: seconds since the step's first attempt began.
        """
        pause = self.strategy.delay(attempt, error, elapsed)
        if pause is None or not self.budget.take():
            return None
        return pause

    def _shown(self) -> Iterator[tuple[str, object]]:
        yield "strategy", self.strategy
        yield "budget", self.budget
