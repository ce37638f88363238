"""Corrupt and malicious bytes raise a SerializationError and nothing else."""

from __future__ import annotations

import enum
import random
import tracemalloc
import zlib
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pydantic
import pytest
from cano import SerializationError
from cano_msgspec import MsgspecCodec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.msgpack import Ext

from tests.plugins.msgspec.registering import RegisteringCodec

BUILTIN, CLASS = 1, 2


class Color(enum.Enum):
    RED = 1


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Bits(enum.IntFlag):
    A = 1


@dataclass
class Order:
    id: int
    lines: list[Any] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Slotted:
    a: Any = None


class Pair(NamedTuple):
    left: Any
    right: Any = None


class Record(msgspec.Struct):
    a: Any = None


class Model(pydantic.BaseModel):
    a: int = 0
    _b: int = 1


@dataclass
class Unregistered:
    """A class that must never be instantiated."""

    a: int = 0

    def __new__(cls, *args: object) -> Unregistered:
        raise AssertionError("an unregistered class was built")


class Conforming(enum.Flag, boundary=enum.CONFORM):
    A = 1


CLASSES = [Color, Access, Bits, Conforming, Order, Slotted, Pair, Record, Model]
VALUES: list[Any] = [
    {"a": [1, 2.5, "x" * 40, None, True, b"y" * 20], "b": {"c": -(2**40)}},
    [2**70, 1j, Decimal("1.10"), Fraction(1, 3), range(1, 9, 2), "\ud800", bytearray(b"a"), UUID(int=5), msgspec.UNSET],
    [datetime(2024, 5, 6, tzinfo=UTC), datetime(2024, 5, 6, fold=1, tzinfo=ZoneInfo("Europe/Berlin")), time(1)],
    [date(2024, 5, 6), timedelta(1, 2, 3), timezone(timedelta(hours=1), "CET"), PurePosixPath("a/b"), Path("a")],
    [(1, (2,)), {1, 2}, frozenset({"a"}), deque([1], 3), {(1,): 2}, OrderedDict(a=1), Counter("ab")],
    [Color.RED, Access.READ | Access.WRITE, Bits(9), Order(1, [Order(2)]), Slotted((1,)), defaultdict(list, {1: [2]})],
    [Pair(1, {2}), Record([1]), Model(a=1)],
]  # fmt: skip


@pytest.fixture(scope="module")
def registered() -> MsgspecCodec:
    """A codec with the classes of this module registered."""
    codec = RegisteringCodec()
    codec.register(*CLASSES)
    return codec


def sealed(body: bytes, tagged: bool = True) -> bytes:
    """Return a MessagePack body with a valid format byte and checksum."""
    head = 0x11 if tagged else 0x10
    return bytes([head]) + zlib.crc32(body, head).to_bytes(4, "big") + body


def forged(node: Any) -> bytes:
    """Return bytes that no writer makes, with a valid checksum."""
    return sealed(msgspec.msgpack.encode(node))


def tag(name: str, code: int = BUILTIN) -> Ext:
    """Return a tag of one of Python's types."""
    return Ext(code, name.encode())


def own(cls: type) -> Ext:
    """Return the tag of a class of this module."""
    return tag(f"{__name__}:{cls.__qualname__}", CLASS)


def is_sound(codec: MsgspecCodec, data: bytes) -> bool:
    """Return whether bytes decode to a value that can be encoded again; if not, they must raise SerializationError."""
    try:
        value = codec.decode(data)
    except SerializationError as error:
        assert str(error).startswith("cannot decode")  # noqa: PT017  what else is raised, fails the test
        return False
    repr(value)
    return True


def test_every_bit_counts(registered: MsgspecCodec) -> None:
    """Any flipped bit, truncation or added byte is refused."""
    for value in VALUES:
        data = registered.encode(value)
        for index in range(len(data)):
            for bit in range(8):
                broken = bytearray(data)
                broken[index] ^= 1 << bit
                assert not is_sound(registered, bytes(broken))
            assert not is_sound(registered, data[:index])
            assert not is_sound(registered, data + data[: index + 1])


def test_random_damage_behind_a_right_checksum(registered: MsgspecCodec) -> None:
    """Corrupt bytes with a valid checksum give a value or a SerializationError."""
    chance = random.Random(4)
    bodies = [registered.encode(value)[5:] for value in VALUES]
    outcomes = Counter[bool]()
    for _ in range(20_000):
        body = bytearray(chance.choice(bodies))
        for _ in range(chance.randint(1, 4)):
            place = chance.randrange(len(body) + 1)
            match chance.randrange(4):
                case 0:
                    body[place : place + 1] = bytes([chance.randrange(256)])
                case 1:
                    del body[place : place + chance.randint(1, 9)]
                case 2:
                    body[place:place] = chance.randbytes(chance.randint(1, 9))
                case 3:
                    other = chance.choice(bodies)
                    start = chance.randrange(len(other))
                    body[place:place] = other[start : start + chance.randint(1, 30)]
        outcomes[is_sound(registered, sealed(bytes(body), chance.random() < 0.8))] += 1
    assert min(outcomes.values()) > 200


@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes(registered: MsgspecCodec, body: bytes, tagged: bool) -> None:
    """Random bytes, with and without a valid checksum, give a value or a SerializationError."""
    is_sound(registered, body)
    is_sound(registered, sealed(body, tagged))


KINDS = "i n c f r S ba u p pp w pw U dt tm da td tz zi zp t s fs dq d od co dd x"
names = st.sampled_from(
    KINDS.split()
    + [f"{__name__}:{cls.__qualname__}" for cls in [*CLASSES, Unregistered]]
    + ["builtins:eval", "os:system", "builtins:type", "subprocess:Popen", "", ":", "a:b.c"]
)
tags = st.builds(tag, names, st.sampled_from([BUILTIN, CLASS, CLASS, 0, 3, 127, -2]))
leaves = st.one_of(
    tags,
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    st.binary(max_size=20),
    st.sampled_from(
        ["a", "id", "lines", "left", "item", "RED", "list", "eval", "2024-01-01", "Europe/Berlin", "1.5", "NaN", ""]
    ),
    st.text(max_size=5),
)
nodes = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(tags, inner).map(list),
        st.tuples(tags, inner, inner, inner).map(list),
        st.tuples(tags, st.dictionaries(st.sampled_from(["a", "id", "lines", "left", "__class__", "x"]), inner)).map(
            list
        ),
        st.dictionaries(st.text(max_size=3) | st.integers(0, 9), inner, max_size=3),
    ),
    max_leaves=10,
)


@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(nodes)
def test_any_tree_of_tags(registered: MsgspecCodec, node: Any) -> None:
    """Tags in any position with any parts give a value or a SerializationError."""
    is_sound(registered, forged(node))


@pytest.mark.parametrize(
    "node",
    [
        [tag("t", 3), 1], [tag("t", 0)], [tag("t", CLASS), 1], [tag("nothing")], tag("t"), {"a": tag("t")},
        [1, tag("t")], [tag("t"), tag("t")],
        [tag("os:system", CLASS), "true"], [tag("builtins:eval", CLASS), "1"], [tag("builtins:dict", CLASS), {}],
        [tag("", CLASS)],
        [tag(f"{__name__}:Unregistered", CLASS), {"a": 1}], [tag(f"{__name__}:Order.__init__", CLASS), {"id": 1}],
        [tag(f"{__name__}:subprocess.Popen", CLASS), {}], [Ext(CLASS, b"\xff\xfe"), 1], [Ext(CLASS, b"x" * 100_000), 1],
        [own(Order)], [own(Order), {}], [own(Order), 1], [own(Order), {"id": 1}, {}, {}, 1],
        [own(Order), {"id": 1, "more": 2}], [own(Order), {1: 1}],
        [own(Order), {"id": 1}, {"id": 2}], [own(Order), {"id": 1}, 5], [own(Order), {"id": 1, "__class__": 2}],
        [own(Order), [["id", 1]]],
        [own(Slotted), {"a": 1}, {"b": 2}], [own(Slotted), {"__slots__": 1}],
        [own(Slotted), {"a": 1}, {"__class__": 1}],
        [own(Pair), {"left": 1}, {"x": 1}], [own(Pair), {"right": 1}], [own(Pair), 1],
        [own(Pair), {"left": 1, "_make": 1}],
        [own(Record), {"b": 1}], [own(Record), {1: 1}], [own(Record), 1], [own(Record), {"a": 1}, {"b": 1}],
        [own(Record)],
        [own(Color), "BLUE"], [own(Color), "__class__"], [own(Color), "mro"], [own(Color), 1], [own(Color), ["RED"]],
        [own(Color)],
        [own(Access), 8], [own(Conforming), 3], [own(Access), "READ"], [own(Access), True], [own(Access), 1.0],
        [own(Access), [tag("i"), b"\x7f" * 100_000]],
        [own(Bits), [tag("i"), b"\x7f" * 100_000]], [own(Bits), [tag("i"), b"\x80" + b"\x00" * 99_999]],
        [own(Model), {"a": 1}], [own(Model), {"a": 1}, [tag("s")], {"b": 1}, None],
        [own(Model), {"a": 1}, [tag("s"), "b"], None, None],
        [own(Model), {"a": 1}, ["a"], None, None], [own(Model), {"a": 1}, [tag("s")], None, {"_c": 1}],
        [own(Model), {"b": 1}, [tag("s")], None, None],
        [own(Model), {"a": 1}, [tag("s")], None, 5], [own(Model), {"__class__": 1}, [tag("s")], None, None],
        [tag("s"), [1]], [tag("fs"), {}], [tag("d"), 1], [tag("d"), [1], 2], [tag("d"), {}, 1], [tag("od"), 1, 2, 3],
        [tag("co"), [], 1],
        [tag("dd")], [tag("dd"), "eval"], [tag("dd"), "__import__"], [tag("dd"), ["list"]], [tag("dd"), "list", 1],
        [tag("dq")], [tag("dq"), -1], [tag("dq"), 1, 2, 3], [tag("dq"), 2**63], [tag("dq"), "a"],
        [tag("i")], [tag("i"), 1], [tag("i"), "1"], [tag("n"), "one"], [tag("n"), "1e99999999999999999999"],
        [tag("n"), 1], [tag("n"), [0, [1], 2]],
        [tag("c"), 1, 2], [tag("c"), "1j", 0.0], [tag("f"), 1, 0], [tag("f"), "1/3", 1], [tag("f"), 1.5, 2],
        [tag("f"), [tag("i"), b"\x7f" * 5000], 3],
        [tag("r"), 0, 1, 0], [tag("r"), 0.5, 1, 1], [tag("r"), 1], [tag("S"), "a"], [tag("S"), b"\xff"],
        [tag("ba"), 5], [tag("ba"), "a"], [tag("ba"), [1]],
        [tag("u"), b"1"], [tag("u"), "x" * 16], [tag("u"), 5], [tag("p"), 5], [tag("p")], [tag("w"), "a"],
        [tag("U"), 1],
        [tag("dt"), "2024"], [tag("dt"), 5], [tag("dt")], [tag("dt"), "2024-01-01", 2, None],
        [tag("dt"), "2024-01-01", 0, "UTC"],
        [tag("dt"), "2024-01-01", 0], [tag("dt"), "99999-01-01"], [tag("tm"), "25:00"], [tag("tm"), None],
        [tag("da"), "2024-13-01"], [tag("da")],
        [tag("td"), 10**10, 0, 0], [tag("td"), "a", 0, 0], [tag("td"), 1], [tag("td"), float("nan"), 0, 0],
        [tag("tz"), 5], [tag("tz"), [tag("td"), 2, 0, 0]], [tag("tz")], [tag("tz"), [tag("td"), 0, 0, 0], 5],
        [tag("zi"), "No/Such"], [tag("zi"), "../../etc/passwd"], [tag("zi"), "/etc/passwd"], [tag("zi"), "Europe"],
        [tag("zi"), "tzdata.zi"],
        [tag("zi"), "posixrules/../UTC"], [tag("zi"), "leapseconds"], [tag("zi"), ""], [tag("zi"), "a\0b"],
        [tag("zi"), 5], [tag("zi"), ["UTC"]],
        [tag("zi"), "os"], [tag("zi"), "x" * 100_000], [tag("zp"), 5], [tag("zp"), "a"], [tag("zp")],
        [tag("zp"), [tag("td"), 99, 0, 0]],
        {(1, 2): [tag("t")]}, [Ext(-1, b"\0\0\0\1")], [[tag("t")], Ext(-1, b"\0\0\0\1")],
    ],
    ids=lambda node: ascii(msgspec.msgpack.encode(node))[2:50],
)  # fmt: skip
def test_forged(registered: MsgspecCodec, node: Any) -> None:
    """Tags with wrong parts raise a SerializationError."""
    assert not is_sound(registered, forged(node))


@pytest.mark.parametrize(
    "body",
    [
        b"", b"\xc1", b"\x91" * 1_000_000, b"\x81\xa1a" * 300_000, b"\xdd\xff\xff\xff\xff",
        b"\xdd\x00\x0f\x00\x00" * 200_000, b"\xdf\xff\xff\xff\xff",
        b"\xdf\x00\x0f\x00\x00" * 200_000, b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x01", b"\xc9\xff\xff\xff\xff\x02a",
        b"\x01\x01", b"\xa1\xff", b"\x81\x80\x01", b"\x81\x91\x80\x01", b"\xd6\xff\x00\x00\x00",
        b"\xc7\x0c\xff" + b"\xff" * 12,
        b"\x92\xd4\x01t" * 300_000 + b"\x01", b"\x92\xd4\x01s" * 390 + b"\x01",
    ],
    ids=lambda body: ascii(body[:12]),
)  # fmt: skip
@pytest.mark.parametrize("tagged", [True, False])
def test_malformed(registered: MsgspecCodec, body: bytes, tagged: bool) -> None:
    """MessagePack that is too deep, too short or declares gigabytes raises a SerializationError and takes no memory."""
    data = sealed(body, tagged)
    tracemalloc.start()
    try:
        assert not is_sound(registered, data)
        assert tracemalloc.get_traced_memory()[1] < 30 * len(data) + 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x11",
        b"\x11\0\0\0\0",
        b"\x12" + b"\0" * 20,
        b"{}",
        "text",
        None,
        5,
        [1, 2, 3, 4, 5, 6],
        b"\x80\x04K\x01.",
    ],
)
def test_foreign_bytes(registered: MsgspecCodec, data: Any) -> None:
    """Bytes of other formats, and objects that are not bytes, raise a SerializationError."""
    assert not is_sound(registered, data)


def test_later_formats(registered: MsgspecCodec) -> None:
    """The error about bytes of a later version says so."""
    with pytest.raises(SerializationError, match=r"of a format that this version cannot read \(0x21\)"):
        registered.decode(b"\x21" + registered.encode(1)[1:])


def test_attributes_are_only_data(registered: MsgspecCodec) -> None:
    """Attributes that are not fields go into the instance's dict and cannot change its class."""
    back = registered.decode(forged([own(Order), {"id": 1}, {"__class__": 5, "__init__": 6}]))

    assert type(back) is Order
    assert vars(back) == {"id": 1, "lines": [], "__class__": 5, "__init__": 6}


def test_damage_names_its_place(registered: MsgspecCodec) -> None:
    """The error gives the path to the corrupt part."""
    with pytest.raises(
        SerializationError,
        match=r"cannot decode \.a\[1\]\.id\[0\] in the value: the bytes are corrupt: cannot build a UUID",
    ):
        registered.decode(forged({"a": [1, [own(Order), {"id": [tag("t"), [tag("u"), b"1"]]}]]}))
