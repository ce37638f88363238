"""Unsupported values are refused with their type and path, and never converted to another type."""

from __future__ import annotations

import array
import collections
import contextlib
import dataclasses
import datetime as dt
import enum
import io
import sys
import threading
import types
from collections.abc import Iterator
from dataclasses import InitVar, dataclass, field
from decimal import Decimal
from fractions import Fraction
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pytest
from cano import SerializationError
from cano_msgspec import MsgspecCodec


class Str(str):
    __slots__ = ()


class Int(int):
    pass


class Float(float):
    pass


class Bytes(bytes):
    pass


class List(list[int]):
    pass


class Dict(dict[str, int]):
    pass


class Tuple(tuple[int, ...]):
    __slots__ = ()


class Set(set[int]):
    pass


class Ordered(collections.OrderedDict[str, int]):
    pass


class Moment(dt.datetime):
    pass


class Zone(dt.tzinfo):
    def utcoffset(self, when: dt.datetime | None) -> dt.timedelta:
        return dt.timedelta(0)

    def dst(self, when: dt.datetime | None) -> dt.timedelta:
        return dt.timedelta(0)

    def tzname(self, when: dt.datetime | None) -> str:
        return "ours"


class Plain:
    pass


class Id(UUID):
    pass


class Money(Decimal):
    pass


@dataclass
class WithInitVar:
    a: int
    b: InitVar[int] = 0


@dataclass
class OnList(list[int]):
    a: int = 0


@dataclass
class OnError(Exception):
    a: int = 0


@dataclass
class Order:
    items: list[Any]
    price: Any = None


@dataclass
class Unset:
    a: int
    b: int = field(init=False)


class Slots:
    __slots__ = ("hidden",)


@dataclass
class OnSlots(Slots):
    a: int = 0


class Describing:
    def __get__(self, owner: object, cls: Any = None) -> int:
        return 1

    def __set__(self, owner: object, value: int) -> None:
        pass


@dataclass
class Described:
    a: int = Describing()  # type: ignore[assignment]


class Point(NamedTuple):
    a: Any


class Bits(enum.IntFlag):
    A = 1


class Making(enum.Enum):
    A = 1

    @classmethod
    def _missing_(cls, value: object) -> Making:
        made = object.__new__(cls)
        made._name_, made._value_ = "MADE", 2
        return made


@dataclass(slots=True)
class Lists:
    a: list[int] = field(default_factory=list)


class Record(msgspec.Struct):
    a: int


def unset() -> Unset:
    value = Unset(1)
    del value.a
    return value


def unset_slot() -> Lists:
    value = Lists()
    del value.a
    return value


def unset_struct() -> Record:
    value = Record(1)
    del value.a
    return value


def a_function() -> None:
    pass


# a zone from a file of the program's own, which other processes would not know of
ZONE_FILE = b"TZif" + bytes(16) + bytes([0] * 15 + [0, 0, 0, 0, 1, 0, 0, 0, 4]) + bytes(6) + b"ABC\0"
UNNAMED_ZONE, OTHER_ZONE = (ZoneInfo.from_file(io.BytesIO(ZONE_FILE), key) for key in (None, "No/Such"))
REFUSED: list[Any] = [
    Str("a"), Int(1), Float(1), Bytes(b"a"), List(), Dict(), Tuple(), Set(), Ordered(), Moment(2024, 1, 1), Id(int=1),
    Money(1),
    Plain(), Plain, int, object(), a_function, lambda: 1, len, sys, ..., NotImplemented, ValueError("a"), iter([]),
    (n for n in [1]),
    memoryview(b"a"), array.array("i"), threading.Lock(), types.SimpleNamespace(), types.MappingProxyType({}),
    slice(1), {}.keys(),
    collections.ChainMap(), collections.UserDict(), collections.defaultdict(lambda: 1),
    collections.defaultdict(partial(int)),
    collections.defaultdict(Plain), dt.datetime(2024, 1, 1, tzinfo=Zone()), dt.time(tzinfo=Zone()), Zone(),
    UNNAMED_ZONE, OTHER_ZONE,
    WithInitVar(1), OnList(), OnError(), OnSlots(), Described(), unset(), unset_struct(), unset_slot(), Making(2),
    Fraction(1, 2**40_000),
    Bits(2**80),
    msgspec.Raw(b"\x01"), msgspec.msgpack.Ext(1, b"t"), msgspec.NODEFAULT, dataclasses.MISSING, sys.version_info,
]  # fmt: skip


@pytest.mark.parametrize("value", REFUSED, ids=lambda value: type(value).__qualname__)
@pytest.mark.parametrize("around", ["alone", "list", "dict", "key", "tuple", "field"])
def test_refused(codec: MsgspecCodec, around: str, value: Any) -> None:
    """An unsupported value is refused in every position."""
    if around == "key":
        try:
            whole: Any = {value: 1}
        except TypeError:
            return
    else:
        whole = {"alone": value, "list": [1, value], "dict": {"a": value}, "tuple": (value,), "field": Point(value)}[
            around
        ]

    with pytest.raises(SerializationError) as caught:
        codec.encode(whole)
    assert str(caught.value).startswith("cannot encode ")
    assert isinstance(caught.value.actual, type)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"items": [0, 1, 2, {"price": Plain()}]}, r".items[3].price in the value: the type {}.Plain is not supported"),
        (
            Order([1, Order([], Str("x"))]),
            r".items[1].price in the value: the type {}.Str is not supported; its value would come back as a plain str",
        ),
        ({"a b": {1: {None: {"": Plain()}}}}, r"['a b'][1][None][''] in the value: the type {}.Plain is not supported"),
        ({(1, 2): [Plain()]}, r"[tuple][0] in the value: the type {}.Plain is not supported"),
        ({(1, Plain()): 1}, r"[key tuple][1] in the value: the type {}.Plain is not supported"),
        (collections.defaultdict(None, {"a": Plain()}), r".a in the value: the type {}.Plain is not supported"),
        (collections.deque([1, Plain()]), r"[1] in the value: the type {}.Plain is not supported"),
        (Point([Plain()]), r".a[0] in the value: the type {}.Plain is not supported"),
        ({2**300: Plain()}, r"[int] in the value: the type {}.Plain is not supported"),
        ([2**70, {"a": Plain()}], r"[1].a in the value: the type {}.Plain is not supported"),
        (WithInitVar(1), r"the value: WithInitVar has an InitVar 'b', whose value would be lost"),
        (unset(), r"the value: the field 'a' of Unset is not set"),
        (OnList(), r"the value: OnList inherits from list, whose content would be lost"),
        (OnSlots(), r"the value: OnSlots has a slot 'hidden' that is not a field"),
        (dt.datetime(2024, 1, 1, tzinfo=Zone()), r"the value: the type {}.Zone is not supported"),
    ],
)
def test_messages(codec: MsgspecCodec, value: Any, message: str) -> None:
    """The error gives the reason and the path."""
    with pytest.raises(SerializationError) as caught:
        codec.encode(value)
    assert str(caught.value) == "cannot encode " + message.format(__name__)


def cyclic() -> Iterator[Any]:
    """Values that contain themselves."""
    items: list[Any] = []
    items.append(items)
    yield items
    wide: list[Any] = []
    wide += [wide, wide, wide]
    yield wide
    table: dict[Any, Any] = {}
    table["a"] = (table,)
    yield table
    order = Order([])
    order.items.append(order)
    yield order
    row: collections.deque[Any] = collections.deque()
    row.append(row)
    yield row


@pytest.mark.parametrize("value", [*cyclic()], ids=lambda value: type(value).__name__)
def test_cycles(codec: MsgspecCodec, value: Any) -> None:
    """A value that contains itself is refused quickly; the path in the message is shortened."""
    with pytest.raises(SerializationError, match="nested too deeply, or contains itself") as caught:
        codec.encode(value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("levels", [401, 5000, 100_000])
def test_too_deep(codec: MsgspecCodec, levels: int) -> None:
    """A value with more levels than every machine can decode is refused."""
    value: Any = []
    for _ in range(levels):
        value = [value]

    with pytest.raises(SerializationError, match="nested too deeply"):
        codec.encode(value)
    while value:  # otherwise Python would free it recursively
        value = value.pop()


def test_deep_in_the_call_stack(codec: MsgspecCodec) -> None:
    """If the call stack is nearly used up, encoding raises a SerializationError."""
    value: Any = [()]
    for _ in range(100):
        value = [value]
    data = codec.encode(value)
    errors: list[BaseException] = []

    def dive(call: Any) -> None:
        try:
            dive(call)
        except RecursionError:
            try:
                call()
            except (SerializationError, RecursionError) as error:  # the very last frames have room for neither
                errors.append(error)
                raise RecursionError from None

    for call in (partial(codec.encode, value), partial(codec.decode, data)):
        with contextlib.suppress(RecursionError):
            dive(call)
    assert any(isinstance(error, SerializationError) for error in errors)


def test_hostile_attributes(codec: MsgspecCodec) -> None:
    """A class whose own code fails during encoding raises a SerializationError."""

    class Meta(type):
        @property
        def __module__(cls) -> str:  # type: ignore[override]
            raise RuntimeError("no module")

    class Odd(metaclass=Meta):
        pass

    with pytest.raises(SerializationError, match="no module"):
        codec.encode(Odd())
