"""Exponential: how long it waits, and how often."""

from __future__ import annotations

import random
import sys
from itertools import count, pairwise, takewhile

import pytest
from cano_retry import Exponential
from hypothesis import given, settings
from hypothesis import strategies as st

ERROR = OSError("down")

durations = st.floats(0, 1e6)
multipliers = st.floats(1, 1e3)
jitters = st.floats(0, 1)
attempts = st.integers(1, 60) | st.integers(1, 10**30)
draws = st.floats(0, 1, exclude_max=True)


def delays(strategy: Exponential, number: int) -> list[float | None]:
    """Return the delays of `strategy` after the first `number` failures."""
    return [strategy.delay(attempt, ERROR, 0.0) for attempt in range(1, number + 1)]


def test_defaults_are_documented() -> None:
    """With no argument: 3 retries from 0.1 s, doubling up to 30 s, a tenth of jitter."""
    expected = "Exponential(max_retries=3, base_delay=0.1, multiplier=2.0, max_delay=30.0, jitter=0.1)"

    assert repr(Exponential()) == expected


def test_first_retry_waits_base_delay() -> None:
    """Pauses start at base_delay and grow by the multiplier; three retries are four attempts."""
    assert delays(Exponential(3, 0.5, 3, jitter=0), 4) == [0.5, 1.5, 4.5, None]


def test_max_delay_caps() -> None:
    """No pause is longer than max_delay."""
    assert delays(Exponential(5, 1, 2, 3, 0), 5) == [1, 2, 3, 3, 3]


def test_default_random_jitters() -> None:
    """Without `random`, the factor comes from the random module, and differs from one pause to the next."""
    seen = {Exponential(jitter=1).delay(1, ERROR, 0.0) for _ in range(20)}

    assert len(seen) > 1


def test_random_object() -> None:
    """A random.Random is drawn from, so that a seed repeats the pauses."""
    drawn = random.Random(7).random()
    strategy = Exponential(base_delay=10, jitter=0.5, random=random.Random(7))

    assert strategy.delay(1, ERROR, 0.0) == 10 * (1 + 0.5 * (2 * drawn - 1))


@pytest.mark.parametrize(("drawn", "expected"), [(0.0, 7.5), (0.5, 10.0), (0.75, 11.25)])
def test_random_function(drawn: float, expected: float) -> None:
    """A function may give the numbers: 0 is the shortest pause, a half the plain one."""
    assert Exponential(base_delay=10, jitter=0.25, random=lambda: drawn).delay(1, ERROR, 0.0) == expected


def test_no_jitter_draws_nothing() -> None:
    """Without jitter the random source is not called."""

    def never() -> float:
        raise AssertionError

    assert Exponential(jitter=0, random=never).delay(1, ERROR, 0.0) == 0.1


@settings(deadline=None)
@given(base=durations, multiplier=multipliers, extra=durations, jitter=jitters, draw=draws, n=attempts)
def test_pause_is_within_bounds(
    base: float, multiplier: float, extra: float, jitter: float, draw: float, n: int
) -> None:
    """Every pause, whatever the attempt, is finite and between the plain pause's two jittered ends."""
    cap = base + extra
    plain = Exponential(None, base, multiplier, cap, 0).delay(n, ERROR, 0.0)
    pause = Exponential(None, base, multiplier, cap, jitter, random=lambda: draw).delay(n, ERROR, 0.0)

    assert plain is not None
    assert pause is not None
    assert base <= plain <= cap
    assert plain * (1 - jitter) <= pause <= plain * (1 + jitter)


@settings(deadline=None)
@given(base=durations, multiplier=multipliers, extra=durations, n=attempts)
def test_pauses_never_shrink_without_jitter(base: float, multiplier: float, extra: float, n: int) -> None:
    """Without jitter each pause is at least as long as the one before, and the cap is not left again."""
    strategy = Exponential(None, base, multiplier, base + extra, 0)
    first = strategy.delay(1, ERROR, 0.0)
    answers = (strategy.delay(n + more, ERROR, 0.0) for more in range(4))
    pauses = [pause for pause in answers if pause is not None]

    assert first == base
    assert len(pauses) == 4
    assert all(earlier <= later for earlier, later in pairwise(pauses))


@settings(deadline=None)
@given(retries=st.integers(0, 50))
def test_number_of_attempts(retries: int) -> None:
    """max_retries retries are granted, so one more attempt is made."""
    strategy = Exponential(retries, jitter=0)
    granted = takewhile(lambda n: strategy.delay(n, ERROR, 0.0) is not None, count(1))

    assert len(list(granted)) == retries


@pytest.mark.parametrize("attempt", [1_100, 10**9, 10**400])
def test_huge_attempt_is_capped(attempt: int) -> None:
    """However large the attempt's number, nothing overflows."""
    assert Exponential(None, jitter=0).delay(attempt, ERROR, 0.0) == 30.0


@pytest.mark.parametrize("attempt", [1_100, 10**400])
def test_pause_that_does_not_grow_never_jumps_to_the_cap(attempt: int) -> None:
    """With a multiplier of 1, or no base delay, the pause stays what it is for ever."""
    assert Exponential(None, 2, 1, 9, 0).delay(attempt, ERROR, 0.0) == 2
    assert Exponential(None, 0, 2, 9, 0).delay(attempt, ERROR, 0.0) == 0


def test_largest_float_as_cap() -> None:
    """A cap of the largest float still gives finite pauses, jitter included."""
    strategy = Exponential(None, 1, 2, sys.float_info.max, 1, random=lambda: 0.9)

    assert strategy.delay(5_000, ERROR, 0.0) == sys.float_info.max


def test_none_is_no_limit() -> None:
    """With max_retries=None it never runs out of retries."""
    assert Exponential(None).delay(1_000_000, ERROR, 0.0) is not None
