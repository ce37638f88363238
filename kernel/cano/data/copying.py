"""Copies of values, so that steps share no mutable value, and the check whether a copy was changed."""

from __future__ import annotations

import copy
import enum
import operator
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from cano.errors import CanoError, SerializationError
from cano.safe_text import error_text

IMMUTABLE = frozenset({int, str, float, bool, bytes, type(None), complex, range, type, frozenset})
_FIELDS = ("__dataclass_fields__", "_fields", "__struct_fields__", "__pydantic_fields__")
_CONTAINERS = (list, dict, set, deque, bytearray)


def isolate(value: Any) -> Any:
    """Return a copy of `value` that shares no mutable container or dataclass with it.

    Containers and dataclasses are copied deeply. Other objects (clients, locks, models) are passed by reference.
    """
    kind = value.__class__
    if kind in IMMUTABLE:
        return value
    if kind is list:
        if IMMUTABLE.issuperset(map(type, value)):
            return value.copy()  # several times as fast as one by one
        return [item if item.__class__ in IMMUTABLE else isolate(item) for item in value]
    if kind is dict:
        return {key: item if item.__class__ in IMMUTABLE else isolate(item) for key, item in value.items()}
    if kind is tuple:
        if IMMUTABLE.issuperset(map(type, value)):
            return value
        items = tuple(map(isolate, value))
        return value if all(map(operator.is_, items, value)) else items
    if kind is set:
        return value.copy()
    if isinstance(value, enum.Enum | type):
        return value
    if isinstance(value, _CONTAINERS) or _fields(kind) is not None:
        try:
            return copy.deepcopy(value, _shared(value))
        except (TypeError, copy.Error):
            return value  # it contains an object that cannot be copied, such as a lock: passed by reference
    return value


def _fields(kind: type) -> Iterable[str] | None:
    """Return the names of the fields of a dataclass or the like; None for any other class."""
    for name in _FIELDS:
        if hasattr(kind, name):
            fields: Iterable[str] = getattr(kind, name)
            return fields
    return None


def _shared(value: Any) -> dict[int, Any]:
    """Return the memo with which `deepcopy` passes the other objects inside `value` by reference."""
    memo: dict[int, Any] = {}
    seen: set[int] = set()
    todo = [value]
    while todo:
        one = todo.pop()
        kind = one.__class__
        if kind in IMMUTABLE or id(one) in seen:
            continue
        seen.add(id(one))
        fields = _fields(kind)
        if isinstance(one, dict):
            todo += one.keys()
            todo += one.values()
        elif isinstance(one, list | tuple | set | deque):
            todo += one
        elif fields is None and not isinstance(one, bytearray):
            memo[id(one)] = one
        if fields is not None:
            todo += [getattr(one, name, None) for name in fields]
        if id(one) not in memo:
            todo += getattr(one, "__dict__", {}).values()
    return memo


def copied(key: str, value: Any, copy: Callable[[Any], Any] = isolate) -> Any:
    """Return `copy(value)`. Raises SerializationError naming `key` if that fails."""
    try:
        return copy(value)
    except SerializationError as error:
        if error.key is not None:
            raise
        message, expected, actual = f"key {key!r}: {error}", error.expected, error.actual
        raise SerializationError(message, key=key, expected=expected, actual=actual) from error
    except CanoError:
        raise
    except Exception as error:  # such as a RecursionError of cyclic data, or any of a user's `__deepcopy__`
        message = f"key {key!r}: its value cannot be copied: {error_text(error)}"
        raise SerializationError(message, key=key) from error


def unchanged(lent: Any, original: Any) -> bool:
    """Return whether a copy still equals its original, types and order included; for `==`, True equals 1."""
    try:
        return _equal(lent, original)
    except Exception:  # noqa: BLE001  # a value that cannot be taken apart, or is too deep, counts as changed
        return False


def _equal(lent: Any, original: Any) -> bool:
    kind = lent.__class__
    if lent is original or kind is not original.__class__:
        return lent is original
    if kind is list or kind is tuple:
        # most items are the original's own: comparing by identity is fastest
        return len(lent) == len(original) and (
            all(map(operator.is_, lent, original)) or all(map(_equal, lent, original))
        )
    if kind is dict:
        return _equal(list(lent), list(original)) and _equal(list(lent.values()), list(original.values()))
    if kind in IMMUTABLE or kind is set:
        return bool(lent == original)
    return _equal(_parts(lent), _parts(original))


def _parts(value: Any) -> list[Any]:
    """Return the parts that an object consists of, as `copy` gets them."""
    make, arguments, *rest = value.__reduce_ex__(4)
    state, items, pairs = [*rest, None, None, None][:3]
    return [make, arguments, state, list(items or ()), list(pairs or ())]
