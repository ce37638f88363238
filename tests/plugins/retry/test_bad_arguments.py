"""Every argument of every strategy is checked when the strategy is made."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from cano import ConfigurationError
from cano_retry import Chain, Exponential, Fixed, NoRetry, RetryBudget, WithBudget


async def asynchronous(error: Exception) -> bool:
    """A predicate that would always count as true."""
    return False


class AsynchronousObject:
    """The same as an object."""

    async def __call__(self, error: Exception) -> bool:
        return False


class Bare:
    """A strategy of another package without `max_retries`."""

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """Retry at once."""
        return 0.0


NO_SECONDS = [-1, -0.001, math.nan, math.inf, -math.inf, "1", None, True, False, 10**400, [1]]
NO_COUNT = [-1, 1.0, 2.5, math.nan, math.inf, "3", True, False, [1]]
NO_MATCH = [
    (),
    (int,),
    (OSError, "KeyError"),
    [OSError],
    {OSError},
    int,
    BaseException,
    KeyboardInterrupt,
    (OSError, SystemExit),
    "OSError",
    OSError(),
    5,
    True,
    asynchronous,
    AsynchronousObject(),
]
OPTIONS: list[tuple[str, list[Any]]] = [
    ("retry_on", NO_MATCH),
    ("give_up_on", NO_MATCH),
    ("max_elapsed", [0, -1, math.nan, math.inf, "1", True, False, 10**400]),
    ("budget", [5, True, RetryBudget, "budget"]),
]
AFTER_HINT: list[tuple[str, list[Any]]] = [("after_hint", [1, 0, None, "yes"])]


def options(make: Callable[..., Any], table: list[tuple[str, list[Any]]]) -> list[Any]:
    """A case for each bad value of each option of `make`."""
    return [
        pytest.param(partial(make, **{name: value}), name, value, id=f"{name}={value!r:.9}")
        for name, values in table
        for value in values
    ]


def fixed(retries: Any = 3, delay: Any = 1.0, **more: Any) -> Fixed:
    """A Fixed whose arguments no type checker looks at."""
    return Fixed(retries, delay, **more)


def chain(**more: Any) -> Chain:
    """A Chain whose arguments no type checker looks at."""
    return Chain(Fixed(1, 1), **more)


def budget(tokens: Any = 3, refill_per_second: Any = 1.0, **more: Any) -> RetryBudget:
    """A RetryBudget whose arguments no type checker looks at."""
    return RetryBudget(tokens, refill_per_second, **more)


CASES = [
    *options(fixed, [("retries", NO_COUNT), ("delay", NO_SECONDS), *OPTIONS, *AFTER_HINT]),
    *options(
        Exponential,
        [
            ("max_retries", NO_COUNT),
            ("base_delay", NO_SECONDS),
            ("multiplier", [0, 0.999, *NO_SECONDS]),
            ("max_delay", [0.05, *NO_SECONDS]),
            ("jitter", [1.001, *NO_SECONDS]),
            ("random", [5, "random", AsynchronousObject(), asynchronous, Bare, Bare()]),
            *OPTIONS,
            *AFTER_HINT,
        ],
    ),
    *options(chain, OPTIONS),
    *options(
        budget,
        [
            ("tokens", [0, None, *NO_COUNT]),
            ("refill_per_second", NO_SECONDS),
            ("clock", [None, 5, Bare(), Bare, asynchronous]),
        ],
    ),
    *options(
        lambda **given: WithBudget(**{"strategy": NoRetry(), "budget": RetryBudget(1, 1), **given}),
        [("strategy", [None, "fixed", NoRetry, 5]), ("budget", [None, 5, RetryBudget])],
    ),
]


@pytest.mark.parametrize(("make", "name", "value"), CASES)
def test_refused_by_name(make: Callable[[], Any], name: str, value: Any) -> None:
    """A bad value raises ConfigurationError that names the argument, the value and what is allowed."""
    with pytest.raises(ConfigurationError) as caught:
        make()

    message = str(caught.value)
    assert message.startswith(f"{name} must be ")
    assert message.endswith(f", not {value!r}")


def test_message_in_full() -> None:
    """Messages are whole sentences."""
    with pytest.raises(ConfigurationError) as caught:
        Exponential(max_retries=-1)

    assert str(caught.value) == "max_retries must be a whole number, 0 or more, or None for no limit, not -1"


def test_cap_below_base_names_both() -> None:
    """A max_delay below base_delay is refused with both values."""
    with pytest.raises(ConfigurationError, match=r"max_delay must be .* base_delay of 60\.0, not 30"):
        Exponential(base_delay=60)


def test_chain_of_nothing() -> None:
    """A chain needs a strategy."""
    with pytest.raises(ConfigurationError, match="strategies must be one or more retry strategies"):
        Chain()


@pytest.mark.parametrize("stranger", [None, "fixed", NoRetry, 5, OSError()])
def test_chain_of_strangers(stranger: Any) -> None:
    """An argument that is not a strategy, such as a class, is refused with its index."""
    with pytest.raises(ConfigurationError, match=r"^strategies\[1\] must be a retry strategy") as caught:
        Chain(NoRetry(), stranger)

    assert str(caught.value).endswith(repr(stranger))


@pytest.mark.parametrize(
    "endless", [Fixed(None, 1), Exponential(None), Bare(), Chain(Bare())], ids=["fixed", "exponential", "bare", "chain"]
)
def test_chain_that_would_never_move_on(endless: Any) -> None:
    """A strategy with an unknown number of retries may only come last."""
    with pytest.raises(ConfigurationError, match=r"^strategies\[1\] must be a strategy with a limited "):
        Chain(NoRetry(), endless, NoRetry())


@pytest.mark.parametrize("claim", [True, -1, 2.0, "2", None])
def test_claimed_retries_are_checked(claim: Any) -> None:
    """A max_retries that is not a valid number counts as unknown."""

    class Claiming(Bare):
        max_retries = claim

    with pytest.raises(ConfigurationError, match=r"^strategies\[0\]"):
        Chain(Claiming(), NoRetry())


@pytest.mark.parametrize("make", [fixed, Exponential, chain, budget])
def test_unknown_options_raise(make: Callable[..., Any]) -> None:
    """A misspelled option is refused."""
    with pytest.raises(TypeError, match="retry_in"):
        make(retry_in=OSError)


def test_options_are_named() -> None:
    """Options cannot be given by position, where they would be mistaken for one another."""
    make: Any = Fixed
    with pytest.raises(TypeError):
        make(3, 1.0, OSError)
