"""Arguments are checked once, when a strategy is made, so that a mistake shows before anything has failed."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import NoReturn

from cano import ConfigurationError, RetryStrategy


def refuse(name: str, value: object, allowed: str) -> NoReturn:
    """Raise ConfigurationError: `name` has a `value` that is not `allowed`."""
    raise ConfigurationError(f"{name} must be {allowed}, not {value!r}")


def number(name: str, value: object, allowed: str, within: Callable[[float], bool]) -> float:
    """`value` as a finite float that `within` accepts; `allowed` says in words which those are."""
    # bool is an int to Python, but True seconds is a slip
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            result = float(value)
        except OverflowError:
            refuse(name, value, allowed)
        if math.isfinite(result) and within(result):
            return result
    refuse(name, value, allowed)


def seconds(name: str, value: object) -> float:
    """`value` as a finite number of seconds, 0 or more."""
    return number(name, value, "a finite number of seconds, 0 or more", lambda given: given >= 0)


def whole(name: str, value: object, allowed: str, least: int) -> int:
    """`value`, if it is a whole number of at least `least`."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return value
    refuse(name, value, allowed)


def retries(name: str, value: int | None) -> int | None:
    """`value`, if it is a number of retries or None."""
    return None if value is None else whole(name, value, "a whole number, 0 or more, or None for no limit", 0)


def function(name: str, value: object, allowed: str) -> None:
    """Raise ConfigurationError unless `value` is something to call that answers at once."""
    call = getattr(type(value), "__call__", None)  # noqa: B004  the method itself is looked at
    # a class where an instance was meant, and a coroutine, would both count as true whatever they were asked
    if isinstance(value, type) or not callable(value):
        refuse(name, value, allowed)
    if inspect.iscoroutinefunction(value) or inspect.iscoroutinefunction(call):
        refuse(name, value, allowed)


def strategy(name: str, value: RetryStrategy) -> RetryStrategy:
    """`value`, if it is a retry strategy."""
    # a class has a delay() too: NoRetry where NoRetry() was meant
    if isinstance(value, type) or not isinstance(value, RetryStrategy):
        refuse(name, value, "a retry strategy: an object with a delay() method")
    return value
