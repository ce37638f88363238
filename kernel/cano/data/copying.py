"""Copies of values, so that steps share no mutable value, and the check whether a copy was changed."""

from __future__ import annotations

import copy
import enum
import operator
from collections import deque
from typing import Any

IMMUTABLE = frozenset({int, str, float, bool, bytes, type(None), complex, range, type, frozenset})
_CONTAINERS = (list, dict, set, deque, bytearray)


def isolate(value: Any) -> Any:
    """Return a copy of `value` that shares no mutable container or dataclass with it.

    Containers and dataclasses are copied deeply. Other objects (clients, locks, models) are passed by reference.
    """
    kind = value.__class__
    if kind in IMMUTABLE:
        return value
    if kind is list:
        return [item if item.__class__ in IMMUTABLE else isolate(item) for item in value]
    if kind is dict:
        return {key: item if item.__class__ in IMMUTABLE else isolate(item) for key, item in value.items()}
    if kind is tuple:
        items = tuple(map(isolate, value))
        return value if all(map(_same, items, value)) else items
    if kind is set:
        return value.copy()
    if isinstance(value, enum.Enum | type):
        return value
    if (
        isinstance(value, _CONTAINERS)
        or hasattr(kind, "__dataclass_fields__")
        or hasattr(kind, "_fields")
        or hasattr(kind, "__struct_fields__")
        or hasattr(kind, "__pydantic_fields__")
    ):
        try:
            return copy.deepcopy(value)
        except (TypeError, copy.Error):
            return value  # it contains an object that cannot be copied, such as a lock: passed by reference
    return value


def _same(one: Any, other: Any) -> bool:
    return one is other


def unchanged(lent: Any, original: Any) -> bool:
    """Return whether a copy still equals its original, types and order included; for `==`, True equals 1."""
    kind = lent.__class__
    if lent is original or kind is not original.__class__:
        return lent is original
    if kind is list or kind is tuple:
        # most items are the original's own: comparing by identity is fastest
        return len(lent) == len(original) and (
            all(map(operator.is_, lent, original)) or all(map(unchanged, lent, original))
        )
    if kind is dict:
        return unchanged(list(lent), list(original)) and unchanged(list(lent.values()), list(original.values()))
    try:
        if kind in IMMUTABLE or kind is set:
            return bool(lent == original)
        return unchanged(_parts(lent), _parts(original))
    except Exception:  # noqa: BLE001  # a value that cannot be taken apart counts as changed
        return False


def _parts(value: Any) -> list[Any]:
    """Return the parts that an object consists of, as `copy` gets them."""
    make, arguments, *rest = value.__reduce_ex__(4)
    state, items, pairs = [*rest, None, None, None][:3]
    return [make, arguments, state, list(items or ()), list(pairs or ())]
