"""By default, programming errors fail at once: the next attempt would only repeat them."""

from __future__ import annotations

import pytest
from cano import (
    ConfigurationError,
    KeyNotFoundError,
    MergeConflictError,
    RetryStrategy,
    SerializationError,
    StoreUnavailableError,
    TypeMismatchError,
    ValidationError,
)
from cano_retry import Chain, Exponential, Fixed
from cano_retry.tenacity import FromTenacity
from tenacity import stop_after_attempt

PROGRAMMING = [
    AssertionError("wrong"),
    AttributeError("x"),
    ConfigurationError("x"),
    ImportError("x"),
    KeyNotFoundError("no key", key="k"),
    MergeConflictError("two"),
    NameError("x"),
    NotImplementedError(),
    SerializationError("no type", key="k"),
    SyntaxError("x"),
    TypeError("2 + '2'"),
    TypeMismatchError("no int", key="k"),
    ValidationError("flow"),
    ExceptionGroup("a task group", [ConnectionError(), TypeError()]),
]
PASSING = [ConnectionError(), ValueError("bad answer"), KeyError("answer"), StoreUnavailableError("no"), OSError()]
DEFAULTS = [Fixed(3, 1), Exponential(3), Chain(Fixed(1, 1), Exponential(2))]


@pytest.mark.parametrize("strategy", DEFAULTS, ids=repr)
@pytest.mark.parametrize("error", PROGRAMMING, ids=lambda error: type(error).__name__)
def test_programming_errors_are_not_retried(strategy: RetryStrategy, error: Exception) -> None:
    """Also in a group with other errors."""
    assert strategy.delay(1, error, 0.0) is None


@pytest.mark.parametrize("strategy", DEFAULTS, ids=repr)
@pytest.mark.parametrize("error", PASSING, ids=lambda error: type(error).__name__)
def test_other_errors_are(strategy: RetryStrategy, error: Exception) -> None:
    """They may pass."""
    assert strategy.delay(1, error, 0.0) is not None


@pytest.mark.parametrize("error", PROGRAMMING, ids=lambda error: type(error).__name__)
def test_retry_on_decides(error: Exception) -> None:
    """One that names them, in a chain as well; and so do tenacity's objects."""
    assert Fixed(3, 1, retry_on=Exception).delay(1, error, 0.0) == 1
    assert Chain(Fixed(3, 1, retry_on=Exception)).delay(1, error, 0.0) == 1
    assert FromTenacity(stop=stop_after_attempt(3)).delay(1, error, 0.0) == 0
    assert Fixed(3, 1, retry_on=Exception, give_up_on=type(error)).delay(1, error, 0.0) is None
