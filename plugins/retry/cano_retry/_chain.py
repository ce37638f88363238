"""`Chain`: strategies used one after another."""

from __future__ import annotations

from collections.abc import Iterator

from cano import RetryStrategy
from cano.options import Seconds, refuse

from cano_retry import _check
from cano_retry._budget import RetryBudget
from cano_retry._match import Match
from cano_retry._strategy import Strategy


class Chain(Strategy):
    """A strategy that uses the first strategy until its retries are used up, then the next, and so on.

    `Chain(Fixed(2, 0.1), Exponential(3))` makes six attempts: the first, two quick retries, and three with increasing
    delays. Each strategy counts its attempts from 1.

    The attempt's number alone selects the strategy, so a chain keeps no state and can be shared. Therefore:

    - Every strategy but the last needs a `max_retries` attribute that is a whole number. The strategies of this
      package have one, unless they are unlimited.
    - The next strategy is used only if the retries of the one before are used up. If a strategy gives up for another
      reason (its `retry_on`, `give_up_on`, `max_elapsed` or `budget`), the whole chain gives up.
    - `elapsed`, and so `max_elapsed`, counts from the step's first attempt, in every strategy of the chain.
    - The selected strategy decides whether to obey an error's `retry_after`.

    Args:
        strategies: one or more strategies, in order.
        retry_on: retry only these errors, checked before any strategy: an exception type, a tuple of types, or a
            function error -> bool.
        give_up_on: never retry these errors; takes precedence over `retry_on`.
        max_elapsed: give up if the next attempt would begin more than this many seconds after the first one began.
        budget: a shared `RetryBudget`. Each retry takes one token; without a token the chain gives up.

    Raises:
        ConfigurationError: an argument is out of range or of a wrong type.
    """

    default_retry_on = Exception  # its strategies decide

    __slots__ = ("strategies",)

    strategies: tuple[RetryStrategy, ...]

    def __init__(
        self,
        *strategies: RetryStrategy,
        retry_on: Match | None = None,
        give_up_on: Match | None = None,
        max_elapsed: Seconds | None = None,
        budget: RetryBudget | None = None,
    ) -> None:
        if not strategies:
            refuse("strategies", strategies, "one or more retry strategies")
        for index, strategy in enumerate(strategies):
            _check.strategy(f"strategies[{index}]", strategy)
            if max_retries_of(strategy) is None and index < len(strategies) - 1:
                allowed = "a strategy with a limited number of retries (max_retries), since others follow"
                refuse(f"strategies[{index}]", strategy, allowed)
        *before, last = (max_retries_of(strategy) for strategy in strategies)
        total = None if last is None else sum(filter(None, before)) + last
        super().__init__(total, retry_on, give_up_on, max_elapsed, True, budget)
        self._set_fields(strategies=strategies)

    @property
    def uses_elapsed(self) -> bool:
        """Whether the chain, or one of its strategies, reads the elapsed time."""
        return super().uses_elapsed or any(getattr(each, "uses_elapsed", True) for each in self.strategies)

    def _next_delay(self, attempt: int, error: Exception, elapsed: float, hint: float | None) -> float | None:
        *before, last = self.strategies
        for strategy in before:
            retries = max_retries_of(strategy) or 0
            if attempt <= retries:
                return strategy.delay(attempt, error, elapsed)
            attempt -= retries
        return last.delay(attempt, error, elapsed)

    def _repr_arguments(self) -> Iterator[tuple[str, object]]:
        for strategy in self.strategies:
            yield "", strategy
        yield from super()._repr_arguments()


def max_retries_of(strategy: RetryStrategy) -> int | None:
    """Return the largest number of retries that `strategy` grants, or None if it is unknown or unlimited."""
    known: object = getattr(strategy, "max_retries", None)
    return known if isinstance(known, int) and not isinstance(known, bool) and known >= 0 else None
