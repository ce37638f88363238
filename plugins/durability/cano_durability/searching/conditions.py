"""The conditions of filters on search attributes: checks their names, and makes ranges of encoded values of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple

from cano import AttributeRange, Condition, FilterError
from cano.options import similar
from cano.search_attributes import EVERY, both, encoded, kind_of, ranges

SIGNS = "=", "!=", "<", "<=", ">", ">=", "in"
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,4})?|[+-]?inf")
FIELDS = "workflow", "status", "state", "error", "parent", "created", "updated"
"""The fields that a text can name beside search attributes."""
KINDS = {
    b"s": "a text", b"n": "a number", b"b": "true or false", b"t": "a time, such as 2026-11-30T09:00",
    b"d": "a date, such as 2026-11-30",
}  # fmt: skip


class Literal(NamedTuple):
    """A value in the text of a filter.

    Attributes:
        text: the value, without quotes.
        quoted: whether it had quotes. It is then no number, and neither true nor false.
        wrong, unknown: make the errors for a problem with it, and with the name that it is compared with.
    """

    text: str
    quoted: bool
    wrong: Callable[[str], FilterError]
    unknown: Callable[[str], FilterError]

    def values(self, kinds: Collection[bytes]) -> list[bytes]:
        """Return what the text means as a value of each of these kinds, encoded. Raises FilterError."""
        found = [value for kind in sorted(kinds) for value in self._as(kind)]
        if not found:
            raise self.wrong(f"the attribute is {' or '.join(KINDS[kind] for kind in sorted(kinds))}")
        return found

    def _as(self, kind: bytes) -> Iterable[bytes]:
        text, lower = self.text, self.text.lower()
        with suppress(ValueError):
            if kind == b"s":
                yield encoded(text)
            elif kind == b"n" and not self.quoted and _NUMBER.fullmatch(lower):
                yield encoded(Decimal(lower))
            elif kind == b"b" and not self.quoted and lower in ("true", "false"):
                yield encoded(lower == "true")
            elif kind == b"d":
                yield encoded(date.fromisoformat(text))
            elif kind == b"t":
                yield encoded(datetime.fromisoformat(text.upper()).astimezone())


def allowed(
    attributes: Mapping[str, Any], declared: Mapping[str, Collection[type]], stored: Iterable[tuple[str, bytes]] | None
) -> dict[str, tuple[AttributeRange, ...]]:
    """Return the ranges that conditions allow, by name.

    Args:
        attributes: a value, a `Condition` or a list of conditions, by name.
        declared: the types that workflows declare, by name.
        stored: the names and kinds of the attributes that the store has; None if they are not known.

    Raises:
        FilterError: there is no such attribute, or a value cannot be compared with it.
    """
    kinds: dict[str, set[bytes]] = {name: set(map(kind_of, types)) for name, types in declared.items()}
    for name, kind in stored or ():
        kinds.setdefault(name, set()).add(kind)
    found: dict[str, tuple[AttributeRange, ...]] = {}
    for name, given in attributes.items():
        if not isinstance(name, str):
            raise FilterError(f"the name of an attribute must be a string, not {name!r}")
        conditions = given if isinstance(given, list) else [given]
        if name not in kinds:
            raise _unknown(name, kinds, conditions)
        found[name] = (AttributeRange(b"", EVERY),)
        for each in conditions:
            condition = each if isinstance(each, Condition) else Condition("=", each)
            found[name] = both(found[name], _ranges(name, condition, kinds[name]))
    return found


def _ranges(name: str, condition: Condition, kinds: Collection[bytes]) -> tuple[AttributeRange, ...]:
    sign, value = condition
    if sign not in SIGNS:
        raise FilterError(f"attribute {name!r} cannot be compared by {sign!r}; known are {', '.join(SIGNS)}")
    if sign == "in" and (isinstance(value, str | bytes) or not isinstance(value, Collection)):
        raise FilterError(f"attribute {name!r} is compared by 'in' with a list of values, not with {value!r}")
    wanted: Sequence[Any] = list(value) if sign == "in" else [value]
    return ranges(sign, [each for one in wanted for each in _values(name, one, kinds)])


def _values(name: str, value: Any, kinds: Collection[bytes]) -> list[bytes]:
    """Return a value as stores compare it; a text of a filter as a value of each kind that it can be."""
    if isinstance(value, Literal):
        return value.values(kinds)
    try:
        result = encoded(value)
    except (TypeError, ValueError) as error:
        raise FilterError(f"attribute {name!r} cannot be compared with {value!r}: {error}") from error
    if result[:1] not in kinds:
        known = " or ".join(KINDS[kind] for kind in sorted(kinds))
        shown = value.value if isinstance(value, Enum) else value
        raise FilterError(f"attribute {name!r} is {known}; it cannot be compared with {shown!r}")
    return [result]


def _unknown(name: str, known: Mapping[str, Any], conditions: Sequence[Any]) -> FilterError:
    """Return the error for an attribute that is not known."""
    names = ", ".join((*FIELDS, *sorted(known)))
    problem = f"there is no field or search attribute {name!r}{similar(name, (*FIELDS, *known))}; known are {names}"
    value = conditions[0].value if conditions and isinstance(conditions[0], Condition) else None
    first = value[0] if isinstance(value, Sequence) and not isinstance(value, Literal | str) and value else value
    return first.unknown(problem) if isinstance(first, Literal) else FilterError(problem)
