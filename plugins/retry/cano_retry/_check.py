"""Checks of arguments, made when a strategy is constructed, so that mistakes show before a task fails."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from datetime import timedelta

from cano import RetryStrategy
from cano.options import refuse


def in_seconds(value: object) -> object:
    """Return a timedelta in seconds, and any other value as it is."""
    return value.total_seconds() if isinstance(value, timedelta) else value


def number(name: str, value: object, allowed: str, accepts: Callable[[float], bool]) -> float:
    """Return `value` as a float. Raise ConfigurationError unless it is finite and `accepts` it.

    Args:
        allowed: the accepted values in words, for the message.
    """
    # bool is a subclass of int, but True as a number of seconds is a mistake
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            result = float(value)
        except OverflowError:
            refuse(name, value, allowed)
        if math.isfinite(result) and accepts(result):
            return result
    refuse(name, value, allowed)


def seconds(name: str, value: object) -> float:
    """Return seconds, or a timedelta, as a float. Raise ConfigurationError unless it is finite, 0 or more."""
    return number(name, in_seconds(value), "a finite number of seconds, 0 or more", lambda given: given >= 0)


def whole(name: str, value: object, allowed: str, least: int) -> int:
    """Return `value`. Raise ConfigurationError unless it is an int of at least `least`."""
    if isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**63:
        return value
    refuse(name, value, allowed)


def retries(name: str, value: int | None) -> int | None:
    """Return `value`. Raise ConfigurationError unless it is a number of retries or None."""
    return None if value is None else whole(name, value, "a whole number, 0 or more, or None for no limit", 0)


def function(name: str, value: object, allowed: str) -> None:
    """Raise ConfigurationError unless `value` is a callable that is neither a class nor a coroutine function."""
    call = getattr(type(value), "__call__", None)  # noqa: B004  the method itself is needed
    # a class passed instead of an instance, or a coroutine function, would return a true value for every error
    if isinstance(value, type) or not callable(value):
        refuse(name, value, allowed)
    if inspect.iscoroutinefunction(value) or inspect.iscoroutinefunction(call):
        refuse(name, value, allowed)


def strategy(name: str, value: RetryStrategy) -> RetryStrategy:
    """Return `value`. Raise ConfigurationError unless it is a retry strategy."""
    # a class has a delay() too: NoRetry passed instead of NoRetry()
    if isinstance(value, type) or not isinstance(value, RetryStrategy):
        refuse(name, value, "a retry strategy: an object with a delay() method")
    return value
