"""RetryBudget, alone and in strategies."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest
from cano_retry import Exponential, Fixed, RetryBudget, WithBudget
from hypothesis import given, settings
from hypothesis import strategies as st

ERROR = OSError("down")


class Clock:
    """A clock that the test advances."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def switching() -> Iterator[None]:
    """Threads take turns as often as the interpreter can, so that a race would show."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def takes(budget: RetryBudget, number: int) -> list[bool]:
    """The outcome of `number` takes in a row."""
    return [budget.take() for _ in range(number)]


def test_starts_full() -> None:
    """The bucket starts with exactly `tokens` tokens."""
    assert takes(RetryBudget(3, 1, clock=Clock()), 4) == [True, True, True, False]


def test_refills_steadily() -> None:
    """Tokens come back at the rate given."""
    clock = Clock()
    budget = RetryBudget(2, 0.5, clock=clock)
    takes(budget, 2)

    clock.now += 1.5
    assert not budget.take()
    clock.now += 0.5
    assert takes(budget, 2) == [True, False]


def test_asking_too_early_costs_nothing() -> None:
    """Many refusals in a row do not delay the next token, not even by rounding."""
    clock = Clock()
    budget = RetryBudget(1, 0.125, clock=clock)
    budget.take()
    for _ in range(80):
        clock.now += 0.09
        assert not budget.take()
    clock.now = 1008.0

    assert budget.take()


def test_never_overflows() -> None:
    """The bucket never contains more than `tokens`."""
    clock = Clock()
    budget = RetryBudget(2, 100, clock=clock)
    clock.now += 3600

    assert budget.available == 2
    assert takes(budget, 3) == [True, True, False]


def test_without_refill() -> None:
    """With a rate of 0 the bucket is never refilled."""
    clock = Clock()
    budget = RetryBudget(1, 0, clock=clock)
    budget.take()
    clock.now += 1e9

    assert not budget.take()


def test_clock_that_goes_back() -> None:
    """Time that runs backwards neither gives nor takes tokens, and is not counted twice afterwards."""
    clock = Clock()
    budget = RetryBudget(3, 1, clock=clock)
    budget.take()
    clock.now -= 500
    assert budget.available == 2
    budget.take()
    clock.now += 500

    assert budget.available == 1


def test_attributes() -> None:
    """The arguments and the available tokens can be read."""
    clock = Clock()
    budget = RetryBudget(4, 0.5, clock=clock)
    budget.take()
    clock.now += 1

    assert (budget.tokens, budget.refill_per_second, budget.available) == (4, 0.5, 3.5)
    assert repr(budget) == "RetryBudget(tokens=4, refill_per_second=0.5)"


def test_real_clock_by_default() -> None:
    """Without a clock it takes the machine's monotonic one."""
    assert takes(RetryBudget(1, 1e-9), 2) == [True, False]


@settings(deadline=None)
@given(
    tokens=st.integers(1, 20),
    rate=st.floats(0, 50),
    pauses=st.lists(st.floats(0, 3), max_size=60),
)
def test_never_more_than_promised(tokens: int, rate: float, pauses: list[float]) -> None:
    """Within any t seconds at most `tokens + rate * t` takes succeed, and a full bucket always gives one."""
    clock = Clock()
    budget = RetryBudget(tokens, rate, clock=clock)
    granted: list[float] = []
    for pause in pauses:
        clock.now += pause
        full = budget.available >= tokens
        if budget.take():
            granted.append(clock.now)
        else:
            assert not full

    for first, begin in enumerate(granted):
        for last, end in enumerate(granted[first:], start=1):
            assert last <= tokens + rate * (end - begin) + 1e-6


def test_threads_share_exactly(switching: None) -> None:
    """Many threads at once get exactly the tokens that there are, however they interleave."""
    budget = RetryBudget(500, 0, clock=Clock())
    barrier = threading.Barrier(8)
    counts: list[int] = []

    def work() -> None:
        barrier.wait()
        counts.append(sum(takes(budget, 250)))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(counts) == 500
    assert len(counts) == 8


def test_strategies_share_a_budget() -> None:
    """One budget limits the retries of all strategies that have it, together."""
    clock = Clock()
    budget = RetryBudget(2, 1, clock=clock)
    here, there = Fixed(5, 1, budget=budget), Exponential(base_delay=2, jitter=0, budget=budget)

    assert here.delay(1, ERROR, 0.0) == 1
    assert there.delay(1, ERROR, 0.0) == 2
    assert here.delay(2, ERROR, 0.0) is None
    assert there.delay(1, ERROR, 0.0) is None
    clock.now += 1
    assert there.delay(1, ERROR, 0.0) == 2


def test_only_retries_take_tokens() -> None:
    """A failure that is not retried anyway costs nothing."""
    budget = RetryBudget(1, 0)
    strategy = Fixed(1, 1, retry_on=OSError, max_elapsed=5, budget=budget)
    strategy.delay(2, ERROR, 0.0)
    strategy.delay(1, ValueError(), 0.0)
    strategy.delay(1, ERROR, 9.0)

    assert budget.available == 1


def test_hinted_retries_take_tokens() -> None:
    """A retry after the error's `retry_after` takes a token too."""
    budget = RetryBudget(1, 0)
    error = OSError("busy")
    error.retry_after = 3  # type: ignore[attr-defined]  # some client libraries set it like this

    assert [Fixed(9, 1, budget=budget).delay(1, error, 0.0) for _ in range(2)] == [3, None]


def test_with_budget_wraps_any_strategy() -> None:
    """WithBudget adds a budget to any strategy; if the strategy gives up, no token is taken."""

    class Twice:
        def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
            return elapsed if attempt <= 2 else None

    budget = RetryBudget(1, 0)
    strategy = WithBudget(Twice(), budget)

    assert strategy.max_retries is None
    assert strategy.delay(3, ERROR, 0.0) is None
    assert strategy.delay(1, ERROR, 4.0) == 4.0
    assert strategy.delay(2, ERROR, 4.0) is None
