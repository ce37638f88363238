"""Search attributes: the types that a workflow may declare, and their values as stores compare them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple

from cano.errors import ConfigurationError, TypeMismatchError
from cano.safe_text import safe_repr

__all__ = ["EVERY", "AttributeRange", "both", "checked", "encoded", "kind_of", "ranges"]

MOST = 50
"""The most attributes that a workflow may declare."""
RESERVED = frozenset((
    "run_id", "workflow", "status", "state", "error", "parent", "created", "updated", "created_after", "created_before",
    "updated_after", "updated_before", "limit", "after", "attributes", "others", "order", "and", "or", "not", "in",
))  # fmt: skip
"""Names that filters of runs use otherwise."""
EVERY = b"\xff"
"""A bound above all encoded values."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_KINDS: dict[type, bytes] = {str: b"s", bool: b"b", int: b"n", float: b"n", Decimal: b"n", datetime: b"t", date: b"d"}
_ACCEPTED: dict[type, tuple[type, ...]] = {float: (float, int), Decimal: (Decimal, int)}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_DIGITS = 1000
_SHIFT = 50_000  # of exponents, so that they have no sign
_COMPLEMENT = bytes.maketrans(b"0123456789", b"9876543210")


class AttributeRange(NamedTuple):
    """A range of encoded values: those from `low` on that are less than `high`, as bytes."""

    low: bytes
    high: bytes

    @property
    def point(self) -> bytes | None:
        """The only value in the range; None if there may be others."""
        return self.low if self.high == self.low + b"\0" else None


def declared(workflow: str, attributes: Mapping[str, Any] | None) -> dict[str, type]:
    """Return the types of a workflow's attributes by name.

    Raises:
        ConfigurationError: a name or a type cannot be that of an attribute.
    """

    def wrong(problem: str, name: Any = None) -> ConfigurationError:
        what = "attributes" if name is None else f"attribute {name!r}"
        return ConfigurationError(f"{what} of workflow {workflow!r}: {problem}", key=name)

    if attributes is None:
        return {}
    if not isinstance(attributes, Mapping):
        raise wrong(f"give a mapping of names to types, such as {{'tenant': str}}, not {safe_repr(attributes)}")
    if len(attributes) > MOST:
        raise wrong(f"there are {len(attributes)}; a workflow has at most {MOST}")
    for name, kind in attributes.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise wrong("a name begins with a letter or _ and has up to 64 letters, digits, _, - and . of ASCII", name)
        if name.lower() in RESERVED:
            raise wrong("filters of runs have a field, or a word, of that name; choose another", name)
        if not isinstance(kind, type) or (kind not in _KINDS and not _is_plain_enum(kind)):
            raise wrong(f"its type must be {', '.join(map(_name_of, _KINDS))}, or an enum of str or int values, not "
                        f"{safe_repr(kind)}", name)  # fmt: skip
    return dict(attributes)


def _is_plain_enum(kind: type) -> bool:
    if not issubclass(kind, Enum):
        return False
    values = [member.value for member in kind]
    return bool(values) and any(all(type(value) is plain for value in values) for plain in (str, int))


def _name_of(kind: type) -> str:
    return kind.__name__


def kind_of(kind: type) -> bytes:
    """Return the first byte of the encoded values of a declared type."""
    if issubclass(kind, Enum):
        kind = type(next(iter(kind)).value)
    return _KINDS[kind]


def checked(name: str, kind: type, value: Any, run_id: str | None = None, workflow: str = "") -> Any:
    """Return a value of an attribute as it is kept: without the class of an enum, or of a subclass.

    Raises:
        TypeMismatchError: it is not of the declared type, or cannot be compared with others of its type.
    """
    accepted = _ACCEPTED.get(kind, (kind,))
    right = isinstance(value, accepted) and (kind is bool or type(value) is not bool)
    problem = f"is {safe_repr(value)}, of type {type(value).__name__}, not {kind.__name__}"
    if right and kind is date and isinstance(value, datetime):
        right = False
    if right:
        if isinstance(value, Enum):
            return value.value
        for plain in (str, int, float):
            if isinstance(value, plain) and type(value) not in (plain, bool):
                value = plain(value) if plain is not str else str.__str__(value)
        try:
            encoded(value)
        except ValueError as error:
            right, problem = False, f"is {safe_repr(value)}: {error}"
    if right:
        return value
    where = "" if run_id is None else f"run {run_id} of workflow {workflow!r}: "
    message = f"{where}attribute {name!r} {problem}; set a value of the declared type, or None for no value"
    raise TypeMismatchError(message, key=name, run_id=run_id, expected=kind, actual=type(value))


def encoded(value: Any) -> bytes:
    """Return a value as stores compare it: values of one kind have the order of their bytes, on every store.

    Numbers are one kind, whatever their class; floats are compared as they are printed. Times are one kind, whatever
    their zone. An enum's member is its value.

    Raises:
        TypeError: there are no attributes of such a type.
        ValueError: it has no place in the order, such as a naive datetime or NaN.
    """
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, bool):
        return b"b1" if value else b"b0"
    if isinstance(value, str):
        return b"s" + value.encode()  # UnicodeEncodeError is a ValueError
    if isinstance(value, int | float | Decimal):
        return _number(value)
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError("the time has no zone; give an aware datetime")
        return b"t%020d" % ((value - _EPOCH) // timedelta(microseconds=1) + 10**18)
    if isinstance(value, date):
        return b"d" + value.isoformat().encode()
    raise TypeError(f"an attribute cannot be of type {type(value).__name__}")


def _number(value: int | float | Decimal) -> bytes:
    """Return a number: its sign, its exponent and its digits; of a negative one, their complement."""
    number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if number.is_nan():
        raise ValueError("NaN is not less or greater than any number")
    if number.is_infinite():
        return b"n0" if number < 0 else b"n4"
    if not number:
        return b"n2"
    digits = bytes(map(b"0123456789".__getitem__, number.as_tuple().digits)).rstrip(b"0")
    exponent = number.adjusted() + _SHIFT
    if len(digits) > _MOST_DIGITS or not 0 <= exponent < 2 * _SHIFT:
        raise ValueError(f"the number has more than {_MOST_DIGITS} digits, or is out of range")
    if number > 0:
        return b"n3%05d" % exponent + digits
    return b"n1" + (b"%05d" % exponent + digits).translate(_COMPLEMENT) + b"~"  # more digits: less


def ranges(sign: str, values: Iterable[bytes]) -> tuple[AttributeRange, ...]:
    """Return the ranges of the values that a condition allows.

    Args:
        sign: `=`, `!=`, `<`, `<=`, `>`, `>=` or `in`; of several values, `!=` allows none, and the others any.
        values: encoded values. Greater and less ones are of the same kind; `!=` allows values of each kind.
    """
    found: list[AttributeRange] = []
    if sign == "!=":
        low = b""
        for value in sorted(values):
            found.append(AttributeRange(low, value))
            low = value + b"\0"
        return (*found, AttributeRange(low, EVERY))
    for value in sorted(set(values)):
        kind, after = value[:1], value + b"\0"
        above = bytes([kind[0] + 1])
        low, high = {"<": (kind, value), "<=": (kind, after), ">": (after, above), ">=": (value, above)}.get(
            sign, (value, after)
        )
        found.append(AttributeRange(low, high))
    return tuple(found)


def both(one: Iterable[AttributeRange], other: Iterable[AttributeRange]) -> tuple[AttributeRange, ...]:
    """Return the ranges of the values that are in both groups of ranges."""
    others = tuple(other)
    met = (AttributeRange(max(a.low, b.low), min(a.high, b.high)) for a in one for b in others)
    return tuple(each for each in met if each.low < each.high)
