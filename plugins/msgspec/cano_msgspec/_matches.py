"""Whether a value is what an annotation asks for."""

from __future__ import annotations

import types
import typing
from typing import Any

from cano_msgspec._annotations import is_typed_dict, stands_for


def matches(value: object, expected: Any) -> bool:
    """Whether it is an instance of `expected`, as far as a class or the origin of a generic tells."""
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
    meant = stands_for(expected)
    if meant is not None:
        return matches(value, meant)
    return origin is None or matches(value, origin)  # Any, a type variable: nothing to tell by


def shown(expected: Any) -> str:
    """How an annotation is written."""
    return expected.__name__ if isinstance(expected, type) and typing.get_origin(expected) is None else str(expected)


def _is_instance(value: object, cls: type) -> bool:
    try:
        return isinstance(value, cls)
    except TypeError:  # such as a protocol that is not runtime-checkable
        return True
