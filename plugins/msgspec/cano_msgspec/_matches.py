"""`matches`: whether a value is of an annotated type."""

from __future__ import annotations

import types
import typing
from typing import Any

from cano_msgspec._annotations import alias_target, is_typed_dict


def matches(value: object, expected: Any) -> bool:
    """Return whether `value` is an instance of `expected`. Of a generic only the origin is checked."""
    if is_typed_dict(expected):
        return isinstance(value, dict)
    origin = typing.get_origin(expected)
    if isinstance(expected, type) and origin is None:
        return _is_instance(value, expected)
    if origin in (typing.Union, types.UnionType):
        return any(matches(value, part) for part in typing.get_args(expected))
    if origin is typing.Literal:
        return any(type(value) is type(part) and value == part for part in typing.get_args(expected))
    if origin is typing.Annotated:
        return matches(value, expected.__origin__)
    target = alias_target(expected)
    if target is not None:
        return matches(value, target)
    return origin is None or matches(value, origin)  # Any and type variables match every value


def format_type(expected: Any) -> str:
    """Return an annotation as it is written in code."""
    return expected.__name__ if isinstance(expected, type) and typing.get_origin(expected) is None else str(expected)


def _is_instance(value: object, cls: type) -> bool:
    try:
        return isinstance(value, cls)
    except TypeError:  # such as a protocol that is not runtime-checkable
        return True
