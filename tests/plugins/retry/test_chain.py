"""Chain: one strategy after another."""

from __future__ import annotations

from cano import RetryStrategy
from cano_retry import Chain, Exponential, Fixed, NoRetry, RetryBudget, WithBudget
from hypothesis import given, settings
from hypothesis import strategies as st

ERROR = OSError("down")


def delays(strategy: RetryStrategy, number: int, error: Exception = ERROR) -> list[float | None]:
    """Return the delays of `strategy` after the first `number` failures."""
    return [strategy.delay(attempt, error, 0.0) for attempt in range(1, number + 1)]


class Echo:
    """A strategy of another package: waits as many seconds as the attempt's number, without a limit."""

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """The number of the attempt."""
        return float(attempt)


def test_next_strategy_counts_from_one() -> None:
    """When the first has no retries left, the next begins with its own first pause."""
    assert delays(Chain(Fixed(2, 0.1), Exponential(3, 1, jitter=0)), 6) == [0.1, 0.1, 1, 2, 4, None]


def test_three_strategies() -> None:
    """Any number of strategies follow one another."""
    assert delays(Chain(Fixed(1, 1), Fixed(2, 2), Fixed(1, 3)), 5) == [1, 2, 2, 3, None]


def test_strategy_without_retries_is_passed_over() -> None:
    """A strategy that grants no retry takes no attempt."""
    assert delays(Chain(NoRetry(), Fixed(0, 1), Fixed(1, 5)), 2) == [5, None]
    assert delays(Chain(Fixed(1, 5), NoRetry()), 2) == [5, None]
    assert delays(Chain(NoRetry()), 1) == [None]


def test_chain_in_a_chain() -> None:
    """A chain is a strategy like others."""
    inner = Chain(Fixed(1, 1), Fixed(1, 2))

    assert inner.max_retries == 2
    assert delays(Chain(inner, Fixed(1, 3), inner), 6) == [1, 2, 3, 1, 2, None]


def test_unlimited_last() -> None:
    """The last strategy may have no limit; then the chain has none."""
    chain = Chain(Fixed(2, 1), Fixed(None, 9))

    assert chain.max_retries is None
    assert chain.delay(10**9, ERROR, 0.0) == 9


def test_foreign_strategy_last() -> None:
    """A strategy from elsewhere may come last, and counts its attempts from 1."""
    assert delays(Chain(Fixed(2, 7), Echo()), 5) == [7, 7, 1, 2, 3]


def test_foreign_strategy_that_says_its_retries() -> None:
    """A strategy from elsewhere may come first if it has max_retries."""

    class Counted(Echo):
        max_retries = 2

    assert delays(Chain(Counted(), Fixed(1, 7)), 4) == [1, 2, 7, None]


def test_wrapped_strategy_keeps_its_retries() -> None:
    """A strategy in WithBudget is chained like the strategy itself."""
    assert delays(Chain(WithBudget(Fixed(1, 1), RetryBudget(9, 0)), Fixed(1, 7)), 3) == [1, 7, None]


def test_ruled_out_error_ends_the_chain() -> None:
    """If a strategy refuses an error, the next strategy is not asked."""
    chain = Chain(Fixed(2, 1, retry_on=OSError), Fixed(2, 5))

    assert delays(chain, 1, ValueError()) == [None]
    assert delays(chain, 5) == [1, 1, 5, 5, None]


def test_only_the_strategy_at_work_is_asked() -> None:
    """Only the selected strategy's retry_on and give_up_on apply."""
    chain = Chain(Fixed(1, 1), Fixed(1, 5, give_up_on=OSError))

    assert delays(chain, 2) == [1, None]


def test_chain_rules_errors_out_for_all() -> None:
    """The chain's own retry_on and give_up_on hold throughout."""
    chain = Chain(Fixed(1, 1), Fixed(1, 5), retry_on=OSError, give_up_on=TimeoutError)

    assert delays(chain, 3) == [1, 5, None]
    assert delays(chain, 2, ValueError()) == [None, None]
    assert delays(chain, 2, TimeoutError()) == [None, None]


def test_max_elapsed_of_a_strategy_ends_the_chain() -> None:
    """If a strategy's max_elapsed is reached, the chain gives up."""
    assert Chain(Fixed(2, 1, max_elapsed=5), Fixed(2, 0)).delay(1, ERROR, 5.0) is None


def test_elapsed_is_the_steps() -> None:
    """A later strategy's max_elapsed counts from the step's first attempt."""
    chain = Chain(Fixed(1, 1), Fixed(1, 1, max_elapsed=5))

    assert chain.delay(2, ERROR, 4.0) == 1
    assert chain.delay(2, ERROR, 4.5) is None


def test_empty_budget_of_a_strategy_ends_the_chain() -> None:
    """If a strategy's budget is empty, the chain gives up."""
    budget = RetryBudget(1, 0)
    chain = Chain(Fixed(2, 1, budget=budget), Fixed(2, 5))

    assert delays(chain, 2) == [1, None]


def test_budget_of_the_chain() -> None:
    """Each retry of a chain takes one token of the chain's budget, whichever strategy grants it."""
    assert delays(Chain(Fixed(1, 1), Fixed(5, 5), budget=RetryBudget(2, 0)), 3) == [1, 5, None]


def test_chain_spends_nothing_on_a_retry_it_forbids() -> None:
    """The chain's budget is asked last."""
    budget = RetryBudget(1, 0)
    Chain(Fixed(1, 1), budget=budget, max_elapsed=1).delay(1, ERROR, 2.0)
    Chain(NoRetry(), budget=budget).delay(1, ERROR, 0.0)

    assert budget.available == 1


@settings(deadline=None)
@given(counts=st.lists(st.integers(0, 8), min_size=1, max_size=6))
def test_attempts_add_up(counts: list[int]) -> None:
    """A chain grants what its strategies grant, each its own number of pauses, in order."""
    chain = Chain(*(Fixed(retries, place) for place, retries in enumerate(counts)))
    expected = [float(place) for place, retries in enumerate(counts) for _ in range(retries)]

    assert chain.max_retries == sum(counts)
    assert delays(chain, sum(counts) + 1) == [*expected, None]


@settings(deadline=None)
@given(order=st.permutations(range(1, 7)))
def test_chain_remembers_nothing(order: list[int]) -> None:
    """The delay depends on the attempt's number alone, not on earlier calls."""
    chain = Chain(Fixed(2, 1), Exponential(2, 10, jitter=0), Fixed(1, 3))
    expected = {1: 1, 2: 1, 3: 10, 4: 20, 5: 3, 6: None}

    assert {attempt: chain.delay(attempt, ERROR, 0.0) for attempt in order} == expected
