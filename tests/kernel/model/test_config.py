"""How a task is attempted: the config itself."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from cano import ConfigurationError, RetryStrategy, TaskConfig


class Twice:
    """A retry strategy of one's own needs nothing but the method."""

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """One more time."""
        return 0.0 if attempt == 1 else None


def test_the_default_is_no_retries_and_no_limits() -> None:
    """A config that says nothing asks for nothing, which is also what `minimal` says."""
    config = TaskConfig()

    assert (config.retry, config.timeout, config.total_timeout, config.on_exhausted) == (None, None, None, None)
    assert TaskConfig.minimal() == config


def test_a_config_is_a_value() -> None:
    """It keeps what it was given, is equal by what it says, and cannot be changed."""
    strategy = Twice()
    config = TaskConfig(retry=strategy, timeout=1, total_timeout=2.5, on_exhausted="plan b")

    assert (config.retry, config.timeout, config.total_timeout, config.on_exhausted) == (strategy, 1, 2.5, "plan b")
    assert config == TaskConfig(strategy, 1, 2.5, "plan b")
    assert config != TaskConfig(strategy, 1, 2.6, "plan b")
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.timeout = 3  # type: ignore[misc]


@pytest.mark.parametrize("retry", [None, "none", "fixed", Twice()])
def test_a_strategy_is_an_object_a_name_or_none(retry: RetryStrategy | str | None) -> None:
    """Any object with a `delay` method is a strategy; a name is looked up later, when the plugins are known."""
    assert TaskConfig(retry=retry).retry == retry


@pytest.mark.parametrize("retry", [3, True, 0.5, [Twice()], object(), Twice, lambda attempt, error, elapsed: 1.0])
def test_other_strategies_are_refused(retry: Any) -> None:
    """A number of retries, a function or a class instead of an instance is refused, and shown."""
    with pytest.raises(ConfigurationError, match="retry must be a strategy") as caught:
        TaskConfig(retry=retry)

    assert repr(retry) in str(caught.value)


@pytest.mark.parametrize("name", ["timeout", "total_timeout"])
@pytest.mark.parametrize("value", [1, 0.001, 10**9])
def test_limits_are_positive_seconds(name: str, value: float) -> None:
    """A positive number is kept as it is."""
    assert getattr(TaskConfig(**{name: value}), name) == value  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["timeout", "total_timeout"])
@pytest.mark.parametrize("value", [0, -1, -0.5, math.nan, -math.inf, True, False, "1", b"1", [1], object()])
def test_other_limits_are_refused(name: str, value: Any) -> None:
    """Zero, negative numbers, NaN and what is no number are refused; the error names the option and the value."""
    with pytest.raises(ConfigurationError, match=f"^{name} must be a positive number of seconds or None") as caught:
        TaskConfig(**{name: value})

    assert repr(value) in str(caught.value)


def test_unknown_options_are_refused() -> None:
    """A misspelt option does not pass silently."""
    with pytest.raises(TypeError, match="retries"):
        TaskConfig(retries=3)  # type: ignore[call-arg]
