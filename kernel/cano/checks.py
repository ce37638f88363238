"""Checks of arguments and options. Each returns the value, or raises ConfigurationError with the allowed values."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from cano.errors import ConfigurationError
from cano.safe_text import safe_repr

if TYPE_CHECKING:
    from datetime import timedelta

Seconds: TypeAlias = "float | timedelta"
"""Seconds, or a timedelta."""
Duration: TypeAlias = "Seconds | None"
"""The same; None for no limit."""
Span: TypeAlias = "Seconds | str"
"""Seconds, a timedelta, or a text such as "30s", "1.5h" or "2h30m"."""
LARGEST = 2**63 - 1
"""The largest whole number that every store takes."""
LONGEST = 100_000_000_000
"""The longest duration in seconds, about 3,000 years: now and this long is a time that every store takes."""
UNITS = {"w": 604_800.0, "d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "": 1.0}
"""The units of durations as text, in seconds."""
_PART = re.compile(r"(\d+\.?\d*|\.\d+)\s*(w|d|h|m|s|)")


class Text(str):
    """A value from a URL or an environment variable. The checks of numbers and switches parse it."""

    __slots__ = ()


def refuse(name: str, value: object, allowed: str) -> NoReturn:
    """Raise ConfigurationError: `name` must be `allowed`, not `value`."""
    raise ConfigurationError(f"{name} must be {allowed}, not {safe_repr(value)}")


def similar(name: str, known: Iterable[Any], named: Callable[[Any], str] = str) -> str:
    """Return a question about the most similar of what is `known`, for messages; "" if nothing is similar.

    `named` gives the name of each.
    """
    from difflib import get_close_matches  # late: rarely needed

    names = {named(one): one for one in known}
    return "".join(f" (did you mean {names[close]!r}?)" for close in get_close_matches(name, sorted(names), 1))


def whole(name: str, value: object, least: int = 0, most: int = LARGEST) -> int:
    """Return `value` if it is a whole number from `least` to `most`."""
    number = _number(value)
    if isinstance(number, int) and least <= number <= most:
        return number
    refuse(name, value, f"a whole number{_limits(least, most, number)}")


def whole_or_none(name: str, value: object, least: int) -> int | None:
    """Return `value` if it is None, or a whole number of at least `least`."""
    number = _number(value)
    if value is not None and not (isinstance(number, int) and least <= number <= LARGEST):
        refuse(name, value, f"a whole number{_limits(least, LARGEST, number)} or None".replace("more or", "more, or"))
    return number  # type: ignore[return-value]  # an int by now


def seconds(name: str, value: object, least: float = 0, most: float = math.inf) -> float:
    """Return `value`, seconds or a timedelta, in seconds. It is from `least` to `most`."""
    number = _in_seconds(value)
    if number is not None and least <= number <= most:
        return number
    refuse(name, value, f"a number of seconds{_limits(least, most, number)}")


def positive_seconds(name: str, value: object) -> float:
    """Return `value`, seconds or a timedelta, in seconds. It is above 0."""
    return _above_0(name, value, "")


def time_limit(name: str, value: object) -> float | None:
    """Return `value` if it is None, or a number of seconds above 0, or the seconds of such a timedelta."""
    return None if value is None else _above_0(name, value, " or None")


def text_seconds(value: str) -> float | None:
    """Return a duration such as `90`, `90s`, `1.5h` or `2h30m` in seconds; None if it is not one."""
    value = value.strip().lower()
    parts = _PART.findall(value)
    # one number may have no unit; "1 30" means nothing
    if not parts or _PART.sub("", value).strip() or (len(parts) > 1 and not all(unit for _, unit in parts)):
        return None
    return sum(float(number) * UNITS[unit] for number, unit in parts)


def duration(name: str, value: object) -> float:
    """Return `value`, seconds, a timedelta or a text such as "2h30m", in seconds. It is above 0."""
    number = text_seconds(value) if isinstance(value, str) else _in_seconds(value)
    if number is not None and 0 < number <= LONGEST:
        return float(number)
    refuse(name, value, 'a positive number of seconds, a timedelta, or a text such as "30s" or "2h30m"')


def instant(name: str, value: object) -> float:
    """Return `value`, an aware datetime or seconds since the Unix epoch, in seconds. It is in the years 1 to 9999."""
    from datetime import datetime  # late: importing it takes 1 ms

    if isinstance(value, datetime):
        if value.utcoffset() is None:
            refuse(name, value, "a datetime with a time zone")
        value = value.timestamp()
    number = _number(value)
    if number is not None and -62_135_596_800 <= number < 253_402_300_800:
        return float(number)
    refuse(name, value, "a datetime with a time zone, or seconds since the epoch, in the years 1 to 9999")


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
    """Return `value` if it is a string that is not empty and contains no NUL and no lone surrogate."""
    if isinstance(value, str) and value and "\0" not in value:
        if value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value):
            return str(value)
        refuse(name, value, "a string without lone surrogates")
    refuse(name, value, "a string that is not empty and contains no NUL")


def listed(name: str, value: object) -> tuple[Any, ...]:
    """Return the items of `value` if it is iterable and not a string."""
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | type):
        return tuple(value)
    refuse(name, value, "a list")


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


def _in_seconds(value: object) -> int | float | None:
    """Return a number, or a timedelta, in seconds; None if it is neither."""
    if (number := _number(value)) is None:
        from datetime import timedelta  # late: importing it takes 1 ms

        return value.total_seconds() if isinstance(value, timedelta) else None
    return number


def _limits(least: float, most: float, number: float | None) -> str:
    boundless = most in (LARGEST, math.inf) and not (number is not None and number > most)
    return f", {least} or more" if boundless else f" from {least} to {most}"


def _above_0(name: str, value: object, other: str) -> float:
    number = _in_seconds(value)
    if number is not None and 0 < number <= LONGEST:
        return number
    most = f" up to {LONGEST:,}" if number is not None and number > LONGEST else ""
    refuse(name, value, f"a positive number of seconds{most}{other}")
