"""Errors that carry `retry_after`, and the limit of time."""

from __future__ import annotations

import math
from typing import Any

import pytest
from cano_retry import Chain, Exponential, Fixed


class Busy(Exception):
    """A server's answer that says when to come back."""

    def __init__(self, retry_after: Any = None) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


STRATEGIES = [Fixed(3, 1.0), Exponential(3, 1.0, jitter=0), Chain(Fixed(3, 1.0))]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
@pytest.mark.parametrize("hint", [0, 0.25, 7, 3600.5])
def test_hint_is_obeyed(strategy: Fixed | Exponential | Chain, hint: float) -> None:
    """The pause is what the error asks for: shorter, longer and beyond max_delay, with no jitter."""
    assert strategy.delay(1, Busy(hint), 0.0) == hint


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
@pytest.mark.parametrize("hint", [None, -1, math.nan, math.inf, -math.inf, "5", True, False, 10**400, [5]], ids=str)
def test_senseless_hint_is_ignored(strategy: Fixed | Exponential | Chain, hint: Any) -> None:
    """What is no finite number of seconds, 0 or more, leaves the pause as it was."""
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
    """With after_hint=False the error is not listened to; a chain leaves that to its strategies."""
    assert strategy.delay(1, Busy(7), 0.0) == 1.0


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
def test_hint_grants_no_further_retry(strategy: Fixed | Exponential | Chain) -> None:
    """An error that says when to come back does not come back more often than others."""
    assert strategy.delay(4, Busy(7), 0.0) is None


def test_longest_hint_of_a_group() -> None:
    """A group waits for the last of its errors that says how long, however deep."""
    inner = ExceptionGroup("inner", [Busy(9), OSError()])

    assert Fixed(3, 1.0).delay(1, ExceptionGroup("outer", [Busy(2), inner, Busy(math.inf)]), 0.0) == 9
    assert Fixed(3, 1.0).delay(1, ExceptionGroup("silent", [OSError(), Busy()]), 0.0) == 1.0


def test_group_speaks_for_itself_first() -> None:
    """A group with a retry_after of its own is taken at its word."""

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
    """An error that asks for more time than there is, ends it."""
    assert Fixed(3, 1.0, max_elapsed=10).delay(1, Busy(5), 5.0) == 5
    assert Fixed(3, 1.0, max_elapsed=10).delay(1, Busy(6), 5.0) is None


def test_max_elapsed_counts_the_jittered_pause() -> None:
    """The pause that is really made is what counts."""
    shortest = Exponential(base_delay=10, jitter=0.5, random=lambda: 0.0, max_elapsed=6)
    plain = Exponential(base_delay=10, jitter=0.5, random=lambda: 0.5, max_elapsed=6)

    assert shortest.delay(1, OSError(), 0.0) == 5
    assert plain.delay(1, OSError(), 0.0) is None
