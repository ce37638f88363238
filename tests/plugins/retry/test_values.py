"""Strategies are immutable, compare by their fields, and show their arguments."""

from __future__ import annotations

import copy
import pickle
import random
from datetime import timedelta
from typing import Any

import pytest
from cano import RetryStrategy
from cano_retry import Chain, Exponential, Fixed, NoRetry, RetryBudget, WithBudget

BUDGET = RetryBudget(5, 1)


def is_temporary(error: Exception) -> bool:
    """A predicate that can be named."""
    return isinstance(error, TimeoutError)


def made() -> list[Any]:
    """Return a new strategy of each kind."""
    return [
        NoRetry(),
        Fixed(3, 1.0),
        Fixed(3, 1.0, retry_on=OSError),
        Exponential(),
        Exponential(jitter=0),
        Exponential(retry_on=(OSError, KeyError), give_up_on=is_temporary, max_elapsed=9, after_hint=False),
        Chain(Fixed(3, 1.0), Exponential()),
        Chain(Fixed(3, 1.0), Exponential(), max_elapsed=9),
        Fixed(3, 1.0, budget=BUDGET),
        WithBudget(NoRetry(), BUDGET),
    ]


def test_durations_may_be_timedeltas() -> None:
    """Each duration of a strategy may be a timedelta."""
    one, many = timedelta(seconds=1), timedelta(minutes=1)
    assert Fixed(3, one, max_elapsed=many) == Fixed(3, 1.0, max_elapsed=60.0)
    assert Exponential(3, one, max_delay=many) == Exponential(3, 1.0, max_delay=60.0)
    assert Chain(Fixed(3, one), max_elapsed=many) == Chain(Fixed(3, 1.0), max_elapsed=60.0)


@pytest.mark.parametrize("strategy", made(), ids=repr)
def test_is_a_strategy(strategy: Any) -> None:
    """Each implements the kernel's protocol and has max_retries."""
    assert isinstance(strategy.max_retries, int)
    assert isinstance(strategy, RetryStrategy)


@pytest.mark.parametrize("strategy", made(), ids=repr)
def test_cannot_be_changed(strategy: Any) -> None:
    """No attribute can be set, added or deleted, and there is no room for one."""
    name = type(strategy).__name__
    for attribute in ("max_retries", "brand_new"):
        with pytest.raises(AttributeError, match=f"{name} cannot be changed"):
            setattr(strategy, attribute, 1)
    with pytest.raises(AttributeError, match=f"{name} cannot be changed"):
        del strategy.max_retries
    assert not hasattr(strategy, "__dict__")


def test_equal_by_content() -> None:
    """Two strategies are equal, with equal hashes, exactly if they were made alike."""
    for place, strategy in enumerate(made()):
        for other_place, other in enumerate(made()):
            assert (strategy == other) is (place == other_place)
    assert set(made()) == {*made(), *made()}
    assert Fixed(3, 1.0) != "Fixed(retries=3, delay=1.0)"


def test_budget_is_itself_only() -> None:
    """Two budgets are never equal: each counts for itself."""
    assert RetryBudget(5, 1) != BUDGET
    assert Fixed(1, 1, budget=RetryBudget(5, 1)) != Fixed(1, 1, budget=BUDGET)


def test_unhashable_content() -> None:
    """A strategy is as hashable as what it holds."""

    class Unhashable:
        __hash__ = None  # type: ignore[assignment]  # the usual way to say it

        def __call__(self, error: Exception) -> bool:
            return True

    with pytest.raises(TypeError, match="unhashable"):
        hash(Fixed(1, 1, retry_on=Unhashable()))


def test_copies_are_the_same() -> None:
    """A copy is the object itself, so that copies share a budget."""
    for strategy in made():
        assert copy.copy(strategy) is strategy
        assert copy.deepcopy([strategy])[0] is strategy


@pytest.mark.parametrize("strategy", made()[:8], ids=repr)
def test_pickles(strategy: Any) -> None:
    """A strategy without a budget goes to another process and comes back equal."""
    assert pickle.loads(pickle.dumps(strategy)) == strategy


def test_attributes() -> None:
    """The arguments of a strategy can be read."""
    exponential = Exponential(5, 1, 3, 20, 0.5, retry_on=OSError, max_elapsed=60)
    chain = Chain(Fixed(2, 7), exponential)

    assert (exponential.max_retries, exponential.base_delay, exponential.multiplier) == (5, 1.0, 3.0)
    assert (exponential.max_delay, exponential.jitter, exponential.max_elapsed) == (20.0, 0.5, 60.0)
    assert (exponential.retry_on, exponential.give_up_on, exponential.budget) == (OSError, None, None)
    assert (Fixed(2, 7).seconds, Fixed(2, 7).max_retries, chain.max_retries) == (7.0, 2, 7)
    assert chain.strategies == (Fixed(2, 7), exponential)


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (NoRetry(), "NoRetry()"),
        (Fixed(2, 1, after_hint=False), "Fixed(retries=2, delay=1.0, after_hint=False)"),
        (Fixed(None, 1, retry_on=(OSError,)), "Fixed(retries=None, delay=1.0, retry_on=(OSError,))"),
        (
            Exponential(random=random.Random(1), give_up_on=is_temporary, max_elapsed=9),
            "Exponential(max_retries=3, base_delay=0.1, multiplier=2.0, max_delay=30.0, jitter=0.1, "
            "random=Random.random, give_up_on=is_temporary, max_elapsed=9.0)",
        ),
        (
            Chain(NoRetry(), Fixed(1, 1), retry_on=(OSError, KeyError)),
            "Chain(NoRetry(), Fixed(retries=1, delay=1.0), retry_on=(OSError, KeyError))",
        ),
        (
            WithBudget(NoRetry(), BUDGET),
            "WithBudget(strategy=NoRetry(), budget=RetryBudget(tokens=5, refill_per_second=1.0))",
        ),
    ],
)
def test_repr(strategy: RetryStrategy, expected: str) -> None:
    """A strategy shows how it was made, leaving out options that were not given."""
    assert repr(strategy) == expected
