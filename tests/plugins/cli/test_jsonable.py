"""Whatever a run's data holds can be shown."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import math
import uuid
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cano_cli.jsonable import MAX_DEPTH, dumps, jsonable


class Colour(enum.IntEnum):
    """States in data are often enum members."""

    RED = 1


@dataclasses.dataclass
class Point:
    """A dataclass within a dataclass."""

    x: Any
    y: Any = None


class Pair(NamedTuple):
    """A tuple of another kind."""

    one: int
    other: int


class Mute:
    """An object that cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (3, 3),
        (2.5, 2.5),
        ("text", "text"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        pytest.param(10**5000, hex(10**5000), id="thousands of digits"),
        (Colour.RED, "RED"),
        ({7: "a", None: "b", (2, 3): "c", Colour.RED: "d"}, {"7": "a", "null": "b", "[2, 3]": "c", "RED": "d"}),
        ({"b", "a"}, ["a", "b"]),
        (frozenset({2, "a"}), ["a", 2]),
        ((1, [2]), [1, [2]]),
        (Pair(1, 2), [1, 2]),
        (Point(Point(1), {2}), {"x": {"x": 1, "y": None}, "y": [2]}),
        (b"\x00\xff", "AP8="),
        (datetime.datetime(2024, 1, 2, 3, tzinfo=datetime.UTC), "2024-01-02T03:00:00+00:00"),
        (datetime.date(2024, 1, 2), "2024-01-02"),
        (datetime.time(3), "03:00:00"),
        (datetime.timedelta(hours=1), "1:00:00"),
        (decimal.Decimal("0.10"), "0.10"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Path("a/b"), "a/b"),
        (1j, "1j"),
        (Point, repr(Point)),
        (Mute(), "<Mute, whose repr raised RuntimeError>"),
    ],
)  # fmt: skip
def test_as_json(value: Any, expected: Any) -> None:
    """What JSON has stays what it is; everything else is said in the nearest way."""
    assert jsonable(value) == expected
    assert json.loads(dumps(value)) == expected


def test_cycle() -> None:
    """What contains itself ends somewhere."""
    value: list[Any] = []
    value.append(value)

    assert dumps(value) == "[" * MAX_DEPTH + '"..."' + "]" * MAX_DEPTH
