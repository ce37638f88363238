"""A value of each type that the codec supports. Never move a class: the stores hold its module and its name."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from msgspec import Struct
from pydantic import BaseModel


class Colour(Enum):
    """An enum: kept by name."""

    RED = "#f00"
    BLUE = "#00f"


class Size(IntEnum):
    """An enum whose members are numbers too."""

    LARGE = 3


class Unit(StrEnum):
    """An enum whose members are texts too."""

    PIECE = "piece"


class Mark(Flag):
    """A flag: a combination is kept by value."""

    FRAGILE = 1
    URGENT = 2


@dataclass
class Item:
    """A dataclass with others inside."""

    name: str
    price: Decimal
    colour: Colour
    parts: tuple[Item, ...] = ()


class Point(NamedTuple):
    """A named tuple."""

    x: int
    y: float


class Label(Struct):
    """A struct of msgspec."""

    text: str
    size: Size


class Address(BaseModel):
    """A model of pydantic."""

    street: str
    number: int


LAMP = Item("lamp", Decimal("19.90"), Colour.RED, (Item("bulb", Decimal("1.50"), Colour.BLUE),))
NOON = datetime(2026, 1, 2, 12, 0, 0, 123456, tzinfo=UTC)

VALUES: dict[str, Any] = {
    "nothing": None,
    "yes": True,
    "integer": -7,
    "large integer": 2**80,
    "float": 0.1,
    "infinity": float("-inf"),
    "complex": 1 + 2j,
    "decimal": Decimal("10.00"),
    "fraction": Fraction(2, 3),
    "range": range(1, 9, 2),
    "text": "naïve 🙂 \0 end",
    "": "the empty key",
    "odd\0key": "a key with NUL",
    "bytes": b"\x00\xff",
    "bytearray": bytearray(b"abc"),
    "uuid": UUID("12345678-1234-5678-1234-567812345678"),
    "path": PurePosixPath("/tmp/file"),
    "list": [1, [2, []]],
    "tuple": (1, ("two", None)),
    "set": {7},
    "frozenset": frozenset({(1, 2)}),
    "deque": deque([1, 2], 5),
    "dict": {"a": {"b": [1]}, 2: "two", (3, "x"): b"three"},
    "ordered": OrderedDict([("z", 1), ("a", 2)]),
    "counter": Counter({"a": 2}),
    "defaultdict": defaultdict(list, {"a": [1]}),
    "aware": NOON,
    "naive": datetime(2026, 1, 2, 3, 4, 5),
    "zoned": datetime(2026, 7, 1, 9, 0, tzinfo=ZoneInfo("Europe/Berlin")),
    "folded": datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
    "offset": timezone(timedelta(hours=5, minutes=30)),
    "date": date(2026, 2, 28),
    "time": time(23, 59, 59, 999999),
    "timedelta": timedelta(days=-1, microseconds=5),
    "enum": Colour.BLUE,
    "int enum": Size.LARGE,
    "text enum": Unit.PIECE,
    "flag": Mark.FRAGILE | Mark.URGENT,
    "dataclass": LAMP,
    "named tuple": Point(1, 2.5),
    "struct": Label("fragile", Size.LARGE),
    "model": Address(street="Elm Street", number=12),
    "nested": {"items": [LAMP], "by colour": {Colour.RED: (LAMP.price, NOON)}},
    "long": "compress me, hide me, move me elsewhere " * 28,
}

CLASSES = (Colour, Size, Unit, Mark, Item, Point, Label, Address)
