"""Checks of arguments and options. Each returns the value, or raises ConfigurationError with the allowed values."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from typing import NoReturn

from cano.errors import ConfigurationError


class Text(str):
    """A value from a URL or an environment variable. The checks of numbers and switches parse it."""

    __slots__ = ()


def refuse(name: str, value: object, allowed: str) -> NoReturn:
    """Raise ConfigurationError: `name` must be `allowed`, not `value`."""
    raise ConfigurationError(f"{name} must be {allowed}, not {value!r}")


def similar(name: str, known: Iterable[str]) -> str:
    """Return a question about the most similar of the `known` names, for messages; "" if none is similar."""
    from difflib import get_close_matches  # late: rarely needed

    return "".join(f" (did you mean {close!r}?)" for close in get_close_matches(name, sorted(known), 1))


def whole(name: str, value: object, least: int = 0, most: int | None = None) -> int:
    """Return `value` if it is a whole number from `least` to `most`."""
    number = _number(value)
    if isinstance(number, int) and least <= number and (most is None or number <= most):
        return number
    refuse(name, value, f"a whole number{_limits(least, most)}")


def whole_or_none(name: str, value: object, least: int) -> int | None:
    """Return `value` if it is None, or a whole number of at least `least`."""
    number = _number(value)
    if value is not None and not (isinstance(number, int) and number >= least):
        refuse(name, value, f"a whole number, {least} or more, or None")
    return number  # type: ignore[return-value]  # an int by now


def seconds(name: str, value: object, least: float = 0, most: float = math.inf) -> float:
    """Return `value` if it is a number of seconds from `least` to `most`."""
    number = _number(value)
    if number is not None and least <= number <= most:
        return number
    refuse(name, value, f"a number of seconds{_limits(least, most)}")


def positive_seconds(name: str, value: object) -> float:
    """Return `value` if it is a number of seconds above 0."""
    number = _number(value)
    if number is not None and number > 0:
        return number
    refuse(name, value, "a positive number of seconds")


def time_limit(name: str, value: object) -> float | None:
    """Return `value` if it is None, or a number of seconds above 0."""
    number = _number(value)
    if value is not None and not (number is not None and number > 0):
        refuse(name, value, "a positive number of seconds or None")
    return number


def switch(name: str, value: object) -> bool:
    """Return `value` if it is a bool. A `Text` must be 0 or 1."""
    if isinstance(value, Text):
        return one_of(name, value, ("0", "1")) == "1"
    if isinstance(value, bool):
        return value
    refuse(name, value, "True or False")


def one_of(name: str, value: object, allowed: Collection[str]) -> str:
    """Return `value` if it is one of the `allowed` strings, of which there are at least two."""
    if isinstance(value, str) and value in allowed:
        return str(value)
    *others, last = allowed
    refuse(name, value, f"{', '.join(others)} or {last}")


def text(name: str, value: object) -> str:
    """Return `value` if it is a string that is not empty and contains no NUL."""
    if isinstance(value, str) and value and "\0" not in value:
        return str(value)
    refuse(name, value, "a string that is not empty and contains no NUL")


def file_mode(name: str, value: object) -> int:
    """Return `value` if it is a file mode: the owner may read and write, and no user may execute. A `Text` is octal."""
    octal = isinstance(value, Text) and len(value) in (3, 4) and {*value} <= {*"01234567"}
    mode = int(value, 8) if octal else value  # type: ignore[call-overload]  # a str by now
    if isinstance(mode, int) and mode & 0o600 == 0o600 and not mode & ~0o666:
        return mode
    refuse(name, value, "a file mode that lets the owner read and write, such as 600 or 640 (0o600 in code)")


def _number(value: object) -> int | float | None:
    """Return `value` as a number, or None if it is not one. A bool is not a number: `timeout=True` is a mistake."""
    if isinstance(value, Text) and value.isascii() and len(value) < 20 and value.replace(".", "", 1).isdecimal():
        return int(value) if value.isdecimal() else float(value)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _limits(least: float, most: float | None) -> str:
    return f", {least} or more" if most in (None, math.inf) else f" from {least} to {most}"
