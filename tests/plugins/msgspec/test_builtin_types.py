"""Values of Python's own types survive a round trip."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from uuid import UUID, uuid1
from zoneinfo import ZoneInfo

import msgspec
import pytest
from cano_msgspec import MsgspecCodec

BERLIN = ZoneInfo("Europe/Berlin")
NESTED: dict[str, Any] = {
    "a": [(1, {2, 3}), {"b": deque([frozenset({(1, "x")})], maxlen=3)}],
    "c": {(1, 2): {1: {"d": Decimal("1.10")}}},
}
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 127, 2**63, -(2**63), 2**64 - 1, 2**64, -(2**63) - 1, 10**400, -(10**400),
    0.0, -0.0, 1.5, 1.0, 5e-324, math.inf, -math.inf, math.nan, complex(-0.0, math.nan), 2j,
    "", "plain", "naïve \N{SNOWMAN} \U0001f600", "\0", "\ud800 alone", "x" * 70_000, b"", b"\x00\xff", bytearray(b"ab"),
    [], [1, True, 1.0, "1", b"1", None], [[]], [[], [[]]], (), (1,), (1, (2, [3])), [()], [(1, 2), [1, 2]],
    set(), {1, "a", (2,)}, frozenset(), frozenset({frozenset({1})}), {math.nan}, {frozenset({1, 2}): {3}},
    deque(), deque([1, [2]]), deque([1], maxlen=1), deque(maxlen=0), deque([(1,)], maxlen=5),
    {}, {"": 1}, {"b": 1, "a": 2}, {1: "a", "1": "b", b"1": "c", None: "d", 1.5: "e"}, {True: 1}, {(1, 2): 3},
    {2**70: 1},
    {"\ud800": 1}, {"a": {(): [()]}}, {frozenset({1}): (1,)}, {date(2020, 1, 1): UUID(int=1)}, {-0.0: 0},
    OrderedDict(), OrderedDict([("b", 1), ("a", (2,))]), Counter(), Counter("abca"), Counter({"a": -1, (1,): 2}),
    defaultdict(None, {1: 2}), defaultdict(list, {"a": [1]}), defaultdict(int, {(1,): 2}), defaultdict(dict),
    datetime.min, datetime.max, datetime(2024, 5, 6, 7, 8, 9, 10), datetime(2024, 5, 6, tzinfo=UTC),
    datetime(2024, 5, 6, fold=1),
    datetime(2024, 5, 6, tzinfo=timezone(timedelta(hours=5, minutes=45))),
    datetime(2024, 5, 6, tzinfo=timezone(-timedelta(seconds=1.5))),
    datetime(2024, 5, 6, tzinfo=timezone(timedelta(0), "Z")), datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN),
    datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN, fold=1), datetime(2024, 10, 27, tzinfo=ZoneInfo("UTC")),
    date.min, date.max, time(), time.max, time(1, 2, fold=1), time(1, 2, tzinfo=UTC), time(1, 2, tzinfo=BERLIN, fold=1),
    timedelta(), timedelta.min, timedelta.max, timedelta(microseconds=-1), UTC, timezone(timedelta(hours=1)), BERLIN,
    timezone(timedelta(hours=1), "CET"), ZoneInfo("America/Argentina/Buenos_Aires"),
    *map(Decimal, ("0", "-0", "-0.00", "1.10", "1E+999999", "1E-999999999", "NaN", "-NaN123", "sNaN", "9" * 500)),
    Decimal("Infinity"), Decimal("-Infinity"),
    UUID(int=0), UUID(int=2**128 - 1), Fraction(1, 3), Fraction(-7), Fraction(10**50, 3),
    range(0), range(5), range(10, -5, -3), range(2**70),
    Path("a/b"), Path(), Path("/tmp/ü"), PurePosixPath("\udc80"), PureWindowsPath("C:/x"), msgspec.UNSET,
    NESTED, [NESTED, NESTED], "a", {"a": 1}, {"ab": [1, 2, {"c": None}]}, list(range(1000)),
    {str(n): n for n in range(1000)},
]  # fmt: skip


def case(value: object) -> str:
    """The same name in every process, which a set's own text is not."""
    return "mixed set" if isinstance(value, set) and len(value) > 1 else ascii(value)[:40]


@pytest.mark.parametrize("value", VALUES, ids=case)
@pytest.mark.parametrize("around", [lambda v: v, lambda v: [v], lambda v: {"k": v}, lambda v: (v, 2**80)], ids="0ldt")
def test_comes_back(comes_back: Callable[[Any], Any], around: Callable[[Any], Any], value: Any) -> None:
    """Every value comes back with its exact type, alone and inside of a list, a dict and a tuple."""
    comes_back(around(value))


def is_hashable(value: object) -> bool:
    """Return whether Python accepts a value as a key: not with a list in it, nor a signalling NaN."""
    try:
        hash(value)
    except TypeError:
        return False
    return True


@pytest.mark.parametrize("value", [*filter(is_hashable, VALUES)], ids=case)
def test_comes_back_as_a_key(comes_back: Callable[[Any], Any], value: Any) -> None:
    """Every hashable value may be a key, and the item of a set."""
    comes_back({value: [value]})
    comes_back({value})


def test_singletons_are_the_same_objects(comes_back: Callable[[Any], Any]) -> None:
    """UTC, UNSET and a named zone come back as the one object that they are."""
    back = comes_back(
        [UTC, msgspec.UNSET, BERLIN, datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=BERLIN)]
    )

    assert back[0] is UTC
    assert back[1] is msgspec.UNSET
    assert back[2] is BERLIN
    assert back[3].tzinfo is UTC
    assert back[4].tzinfo is BERLIN


def test_defaultdict_goes_on_working(comes_back: Callable[[Any], Any]) -> None:
    """A decoded defaultdict makes its defaults, and a decoded Counter counts."""
    back = comes_back([defaultdict(list), Counter("aa")])

    back[0]["new"].append(1)
    back[1]["a"] += 1
    assert back == [{"new": [1]}, {"a": 3}]


def test_uuid_of_a_clock(codec: MsgspecCodec) -> None:
    """A UUID made by the operating system, which carries a safety mark, comes back equal."""
    value = uuid1()

    assert codec.decode(codec.encode(value)) == value


def test_decimals_in_a_strange_context(comes_back: Callable[[Any], Any]) -> None:
    """The program's decimal context does not change stored decimals."""
    value = Decimal("1.2345678901234567890123456789012345E+50")
    with localcontext(Context(prec=2, capitals=0, traps=[])):
        comes_back([value, Decimal("sNaN"), Decimal("1E+20")])


@pytest.mark.parametrize("levels", [1, 50, 195])
def test_depth(codec: MsgspecCodec, levels: int) -> None:
    """Deep values of every kind survive a round trip."""
    value: Any = "bottom"
    for level in range(levels):
        value = [value] if level % 2 else {"k": (value,)} if level % 3 else {1: value}

    assert codec.decode(codec.encode(value)) == value


def test_bytes_are_small(codec: MsgspecCodec) -> None:
    """Plain values cost five bytes more than MessagePack."""
    value = {"a": [1, 2.5, "x", None, True, b"y"], "b": {"c": 3}}

    assert len(codec.encode(value)) == len(msgspec.msgpack.encode(value)) + 5


def test_encoding_changes_nothing(codec: MsgspecCodec) -> None:
    """Encoding does not change a value."""
    value = {"a": [(1,), {2}], "b": {"c": Decimal(1)}, (1,): [[2**70]]}
    before = repr(value)
    codec.encode(value)

    assert repr(value) == before


def test_what_comes_back_is_a_copy(codec: MsgspecCodec) -> None:
    """Decoding twice gives two values that share nothing."""
    data = codec.encode({"a": [[1], (2,)]})
    first, second = codec.decode(data), codec.decode(data)
    first["a"][0].append(2)

    assert second == {"a": [[1], (2,)]}


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_bytes(codec: MsgspecCodec, kind: Callable[[bytes], Any]) -> None:
    """The codec decodes bytes, bytearray and memoryview, since stores may return any of them."""
    assert codec.decode(kind(codec.encode({"a": (1,)}))) == {"a": (1,)}
