"""One strategy after another."""

from __future__ import annotations

from collections.abc import Iterator

from cano import RetryStrategy

from cano_retry import _check
from cano_retry._budget import RetryBudget
from cano_retry._match import Match
from cano_retry._strategy import Strategy


class Chain(Strategy):
    """Follows the first strategy until its retries are used up, then the next, and so on.

    `Chain(Fixed(2, 0.1), Exponential(3))` makes six attempts: two quick retries, then three with growing
    pauses. Each strategy counts its attempts from 1, as if it stood alone.

    Which strategy is at work follows from the number of the attempt alone, so a chain remembers nothing of a
    run and may be shared. Hence:

    - Only used-up retries lead to the next strategy. When a strategy gives up for another reason (an error
      that its `retry_on` or `give_up_on` rules out, its `max_elapsed`, its empty `budget`), the whole chain
      gives up: a strategy that says "not this error" is not overruled by the ones behind it.
    - Every strategy but the last needs a known number of retries: a `max_retries` attribute that is a whole
      number. The strategies of this package have one, unless they are unlimited.
    - `elapsed`, and so any `max_elapsed`, counts from the step's first attempt, not from where a strategy
      took over.
    - Whether an error's `retry_after` is obeyed is up to the strategy at work.

    Args:
        strategies: one or more strategies, in order.
        retry_on: retry only these errors, asked before any strategy is: an exception type, a tuple of types,
            or a function error -> bool.
        give_up_on: never retry these errors, whatever `retry_on` says.
        max_elapsed: seconds since the first attempt began; a retry that would begin later is not made.
        budget: a `RetryBudget` that each retry of the chain takes a token from.

    Raises:
        ConfigurationError: an argument is out of its range or of a wrong type.
    """

    __slots__ = ("strategies",)

    strategies: tuple[RetryStrategy, ...]

    def __init__(
        self,
        *strategies: RetryStrategy,
        retry_on: Match | None = None,
        give_up_on: Match | None = None,
        max_elapsed: float | None = None,
        budget: RetryBudget | None = None,
    ) -> None:
        if not strategies:
            _check.refuse("strategies", strategies, "one or more retry strategies")
        for place, strategy in enumerate(strategies):
            _check.strategy(f"strategies[{place}]", strategy)
            if retries_of(strategy) is None and place < len(strategies) - 1:
                allowed = "a strategy with a limited number of retries (max_retries), since others follow"
                _check.refuse(f"strategies[{place}]", strategy, allowed)
        *before, last = (retries_of(strategy) for strategy in strategies)
        total = None if last is None else sum(filter(None, before)) + last
        super().__init__(total, retry_on, give_up_on, max_elapsed, True, budget)
        self._fill(strategies=strategies)

    @property
    def uses_elapsed(self) -> bool:
        """Whether the elapsed time matters to the chain, or to one of its strategies."""
        return super().uses_elapsed or any(getattr(each, "uses_elapsed", True) for each in self.strategies)

    def _pause(self, attempt: int, error: Exception, elapsed: float, hint: float | None) -> float | None:
        *before, last = self.strategies
        for strategy in before:
            retries = retries_of(strategy) or 0
            if attempt <= retries:
                return strategy.delay(attempt, error, elapsed)
            attempt -= retries
        return last.delay(attempt, error, elapsed)

    def _shown(self) -> Iterator[tuple[str, object]]:
        for strategy in self.strategies:
            yield "", strategy
        yield from super()._shown()


def retries_of(strategy: RetryStrategy) -> int | None:
    """How many retries `strategy` grants at most, where it says so."""
    known: object = getattr(strategy, "max_retries", None)
    return known if isinstance(known, int) and not isinstance(known, bool) and known >= 0 else None
