"""Fixtures and checks for the tests of the codec."""

from __future__ import annotations

import dataclasses
from collections import defaultdict, deque
from collections.abc import Callable
from datetime import datetime, time, timezone
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from cano_msgspec import MsgspecCodec

from tests.plugins.msgspec.registering import RegisteringCodec


def same(left: Any, right: Any) -> bool:
    """Return whether two values are equal and also agree in every type, sign, order and NaN."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return repr(left) == repr(right)
    if isinstance(left, complex):
        return same(left.real, right.real) and same(left.imag, right.imag)
    if isinstance(left, Decimal):
        return str(left) == str(right)
    if isinstance(left, dict):
        factories = (left.default_factory, right.default_factory) if isinstance(left, defaultdict) else (0, 0)
        return factories[0] is factories[1] and same(list(left.items()), list(right.items()))
    if isinstance(left, set | frozenset):
        return len(left) == len(right) and all(any(same(a, b) for b in right) for a in left)
    if isinstance(left, list | tuple | deque):
        alike = len(left) == len(right) and all(map(same, left, right))
        return (
            alike and getattr(left, "maxlen", None) == getattr(right, "maxlen", None) and _alike_attributes(left, right)
        )
    if isinstance(left, datetime | time):
        return (left.isoformat(), left.fold) == (right.isoformat(), right.fold) and same(left.tzinfo, right.tzinfo)
    if isinstance(left, timezone):
        return repr(left) == repr(right)
    if isinstance(left, msgspec.Struct):
        fields = (getattr(left, name) for name in left.__struct_fields__)
        return all(map(same, fields, (getattr(right, name) for name in left.__struct_fields__)))
    if dataclasses.is_dataclass(left):
        names = [field.name for field in dataclasses.fields(left)]
        alike = all(same(getattr(left, name), getattr(right, name)) for name in names)
        return alike and _alike_attributes(left, right)
    return bool(left == right)


def _alike_attributes(left: Any, right: Any) -> bool:
    ours, theirs = (dict(getattr(value, "__dict__", {})) for value in (left, right))
    ours.pop("__orig_class__", None)
    return ours.keys() == theirs.keys() and all(same(ours[name], theirs[name]) for name in ours)


@pytest.fixture
def codec() -> MsgspecCodec:
    """A new codec."""
    return RegisteringCodec()


@pytest.fixture(scope="session")
def comes_back() -> Callable[..., Any]:
    """Check that a value survives a round trip exactly. Return the decoded value."""

    def check(value: Any, codec: MsgspecCodec | None = None) -> Any:
        codec = codec or RegisteringCodec()
        back = codec.decode(codec.encode(value))
        assert same(value, back), f"{value!r} came back as {back!r}"
        return back

    return check
