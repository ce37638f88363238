"""Keys that share a hash, of which a dict or set takes quadratic time, are refused when there are very many."""

from __future__ import annotations

import sys
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from cano import SerializationError
from cano_msgspec import MsgspecCodec

MODULUS = sys.hash_info.modulus


@dataclass(frozen=True)
class Point:
    """A class whose hash is made of its fields'."""

    x: int


MADE: dict[str, Callable[[list[Any]], Any]] = {
    "set": set,
    "frozenset": frozenset,
    "dict": dict.fromkeys,
    "ordered dict": OrderedDict.fromkeys,
    "counter": Counter,
    "default dict": lambda keys: defaultdict(list, dict.fromkeys(keys)),
    "inside": lambda keys: {"list": [{"deep": set(keys)}]},
}
KEYS: dict[str, Callable[[int], Any]] = {
    "integers": lambda number: number * MODULUS,
    "UUIDs": lambda number: UUID(int=number * MODULUS),
    "decimals": lambda number: Decimal(number * MODULUS),
    "objects": lambda number: Point(number * MODULUS),
    "tuples": lambda number: (1, number * MODULUS),
}


@pytest.fixture
def codec() -> MsgspecCodec:
    """A codec that knows the class."""
    codec = MsgspecCodec()
    codec.register(Point)
    return codec


@pytest.mark.parametrize(
    ("kind", "keys"), [*((kind, "integers") for kind in MADE), *(("dict", keys) for keys in KEYS if keys != "integers")]
)
def test_crafted_keys_are_refused(codec: MsgspecCodec, kind: str, keys: str) -> None:
    """More than a thousand keys with one hash are refused, in every kind of dict and set; a thousand are read."""
    crafted = [KEYS[keys](number) for number in range(1001, 2002)]
    assert len({hash(key) for key in crafted}) == 1
    with pytest.raises(SerializationError, match="about 1001 of its 1001 keys or items share a hash, more than 1000"):
        codec.decode(codec.encode(MADE[kind](crafted)))
    value = MADE[kind](crafted[1:])
    assert codec.decode(codec.encode(value)) == value


def test_crafted_keys_are_found_among_others(codec: MsgspecCodec) -> None:
    """They are found among many harmless ones, too, though not all of these are looked at."""
    harmless = [number + MODULUS for number in range(30_000)]
    crafted = [number * MODULUS for number in range(100, 2600)]
    with pytest.raises(SerializationError, match=r"about \d+ of its 32500 keys"):
        codec.decode(codec.encode({*harmless, *crafted}))
    assert codec.decode(codec.encode({*harmless})) == {*harmless}


def test_ordinary_keys_are_read(codec: MsgspecCodec) -> None:
    """Many keys are, whatever they are; so are those of which few share a hash."""
    for keys in (
        [Point(number) for number in range(3000)], [(number % 7, number) for number in range(3000)],
        [number % 60 * MODULUS * 2**64 + number // 60 for number in range(6000)],
    ):  # fmt: skip
        assert codec.decode(codec.encode({*keys})) == {*keys}
