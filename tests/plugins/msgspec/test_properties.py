"""Any value survives a round trip or is refused."""

from __future__ import annotations

import enum
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

import msgspec
import pytest
from cano import SerializationError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.plugins.msgspec.registering import RegisteringCodec

CODEC = RegisteringCodec()


class Color(enum.Enum):
    RED = 1
    BLUE = "blue"


class Access(enum.Flag):
    READ = 1
    WRITE = 2
    RUN = 4


@dataclass
class Order:
    item: Any
    more: list[Any] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Key:
    item: Any


class Pair(NamedTuple):
    left: Any
    right: Any = None


class Record(msgspec.Struct, frozen=True):
    item: Any


class Str(str):
    __slots__ = ()


ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**80), 2**80),
    st.floats(),
    st.complex_numbers(),
    st.text(st.characters()),  # with surrogates
    st.text(),
    st.binary(),
    st.decimals(),
    st.fractions(),
    st.uuids(),
    st.datetimes(timezones=st.none() | st.timezones()),
    st.times(),
    st.dates(),
    st.timedeltas(),
    st.timezones(),
    st.sampled_from([*Color, *Access, Access.READ | Access.RUN, Access(0)]),
    st.builds(range, st.integers(), st.integers(), st.integers(1, 9)),
    st.builds(PurePosixPath, st.text(st.characters(exclude_characters="\0"))),
    st.builds(PureWindowsPath, st.text(st.characters(exclude_characters="\0"))),
)
atoms = st.deferred(lambda: ATOMS)  # deferred, since Hypothesis warns of the length of their repr
KEYS = st.recursive(
    atoms.filter(lambda atom: not (isinstance(atom, Decimal) and atom.is_snan())),
    lambda inner: st.one_of(
        st.tuples(inner, inner),
        st.frozensets(inner, max_size=3),
        st.builds(Key, inner),
        st.builds(Pair, inner, inner),
        st.builds(Record, inner),
    ),
    max_leaves=4,
)
keys = st.deferred(lambda: KEYS)


def tables(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Dicts of every kind, with keys of every kind."""
    table = st.dictionaries(st.text() | keys, inner, max_size=4)
    made = [st.builds(kind, table) for kind in (OrderedDict, Counter)]
    return st.one_of(table, *made, st.builds(defaultdict, st.sampled_from([list, int, None]), table))


values = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.builds(deque, st.lists(inner, max_size=3), st.sampled_from([None, 3, 9])),
        st.sets(keys, max_size=3),
        st.frozensets(keys, max_size=3),
        tables(inner),
        st.builds(Order, inner, st.lists(inner, max_size=2)),
        st.builds(Key, inner),
        st.builds(Pair, inner, inner),
        st.builds(Record, inner),
    ),
    max_leaves=12,
)


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(values)
@example([True, 1, 1.0, -0.0, {True: 1}, {1: 1}])
@example({"a": [{"b": ({1: 2},)}]})
def test_any_value_comes_back(comes_back: Callable[..., Any], value: Any) -> None:
    """Any nested value comes back with all its types."""
    comes_back(value, CODEC)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(values)
def test_encoding_again_gives_the_same(value: Any) -> None:
    """A decoded value is encoded to the same bytes again, unless it contains a set, whose order varies."""
    data = CODEC.encode(value)

    assert len(CODEC.encode(CODEC.decode(data))) == len(data)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.recursive(st.just(Str("x")), lambda inner: tables(inner) | st.lists(inner, min_size=1) | st.builds(Order, inner))
)
def test_a_subclass_is_never_flattened(value: Any) -> None:
    """A value is refused if any part of it is not supported."""
    if holds_one(value):
        with pytest.raises(SerializationError, match="Str is not supported"):
            CODEC.encode(value)
    else:
        CODEC.encode(value)


def holds_one(value: Any) -> bool:
    """Return whether a value contains a `Str`."""
    if isinstance(value, dict):
        return any(map(holds_one, value.values()))
    if isinstance(value, list):
        return any(map(holds_one, value))
    if isinstance(value, Order):
        return holds_one(value.item)
    return isinstance(value, Str)
