"""Errors that carry `retry_after`, and the limit of time."""

from __future__ import annotations

import math
from typing import Any

import pytest
from cano_retry import Chain, Exponential, Fixed


class Busy(Exception):
    """An error with `retry_after`, such as a server's answer."""

    def __init__(self, retry_after: Any = None) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


STRATEGIES = [Fixed(3, 1.0), Exponential(3, 1.0, jitter=0), Chain(Fixed(3, 1.0))]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
@pytest.mark.parametrize("hint", [0, 0.25, 7, 3600.5])
def test_hint_is_obeyed(strategy: Fixed | Exponential | Chain, hint: float) -> None:
    """The delay is the error's `retry_after`: shorter, longer and beyond max_delay, without jitter."""
    assert strategy.delay(1, Busy(hint), 0.0) == hint


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
@pytest.mark.parametrize("hint", [None, -1, math.nan, math.inf, -math.inf, "5", True, False, 10**400, [5]], ids=str)
def test_senseless_hint_is_ignored(strategy: Fixed | Exponential | Chain, hint: Any) -> None:
    """A `retry_after` that is not a finite number, 0 or more, is ignored."""
    assert strategy.delay(1, Busy(hint), 0.0) == 1.0


@pytest.mark.parametrize(
    "strategy",
    [
        Fixed(3, 1.0, after_hint=False),
        Exponential(3, 1.0, jitter=0, after_hint=False),
        Chain(Fixed(3, 1.0, after_hint=False)),
    ],
    ids=repr,
)
def test_hint_may_be_ignored(strategy: Fixed | Exponential | Chain) -> None:
    """With after_hint=False `retry_after` is ignored; a chain leaves that to its strategies."""
    assert strategy.delay(1, Busy(7), 0.0) == 1.0


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
def test_hint_grants_no_further_retry(strategy: Fixed | Exponential | Chain) -> None:
    """An error with `retry_after` is not retried more often than others."""
    assert strategy.delay(4, Busy(7), 0.0) is None


def test_longest_hint_of_a_group() -> None:
    """A group waits for the longest `retry_after` of its errors, at any depth."""
    inner = ExceptionGroup("inner", [Busy(9), OSError()])

    assert Fixed(3, 1.0).delay(1, ExceptionGroup("outer", [Busy(2), inner, Busy(math.inf)]), 0.0) == 9
    assert Fixed(3, 1.0).delay(1, ExceptionGroup("silent", [OSError(), Busy()]), 0.0) == 1.0


def test_group_speaks_for_itself_first() -> None:
    """A group's own `retry_after` takes precedence over its errors'."""

    class BusyGroup(ExceptionGroup[Busy]):
        retry_after = 4

    assert Fixed(3, 1.0).delay(1, BusyGroup("group", [Busy(9)]), 0.0) == 4


@pytest.mark.parametrize(
    "strategy",
    [
        Fixed(3, 1.0, max_elapsed=10),
        Exponential(3, 1.0, jitter=0, max_elapsed=10),
        Chain(Fixed(3, 1.0), max_elapsed=10),
        Chain(Fixed(3, 1.0, max_elapsed=10), Fixed(3, 1.0)),
    ],
    ids=repr,
)
def test_max_elapsed(strategy: Fixed | Exponential | Chain) -> None:
    """A retry may begin at max_elapsed, but not after: a pause that would pass it gives up at once."""
    assert strategy.delay(1, OSError(), 9.0) == 1.0
    assert strategy.delay(1, OSError(), 9.001) is None
    assert strategy.delay(1, OSError(), 100.0) is None


def test_max_elapsed_limits_hints() -> None:
    """A `retry_after` beyond max_elapsed makes the strategy give up."""
    assert Fixed(3, 1.0, max_elapsed=10).delay(1, Busy(5), 5.0) == 5
    assert Fixed(3, 1.0, max_elapsed=10).delay(1, Busy(6), 5.0) is None


def test_max_elapsed_counts_the_jittered_pause() -> None:
    """max_elapsed counts the delay with its jitter."""
    shortest = Exponential(base_delay=10, jitter=0.5, random=lambda: 0.0, max_elapsed=6)
    plain = Exponential(base_delay=10, jitter=0.5, random=lambda: 0.5, max_elapsed=6)

    assert shortest.delay(1, OSError(), 0.0) == 5
    assert plain.delay(1, OSError(), 0.0) is None
