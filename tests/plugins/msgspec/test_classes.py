"""Instances of a program's own classes survive a round trip."""

from __future__ import annotations

import enum
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import msgspec
import pytest
from cano_msgspec import MsgspecCodec

from tests.plugins.msgspec.registering import RegisteringCodec

T = TypeVar("T")
CREATED: list[str] = []


class Color(enum.Enum):
    RED = "red"
    GREEN = "green"
    CRIMSON = "red"  # noqa: PIE796  an alias


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Mode(enum.StrEnum):
    FAST = enum.auto()


class Pair(tuple[int, int], enum.Enum):
    ONE = (1, 1)


class Access(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()


class Bits(enum.IntFlag):
    A = 1
    B = 2
    TOP = 2**80


@dataclass
class Point:
    x: int
    y: float = 0.5


@dataclass(frozen=True)
class Frozen:
    name: str
    tags: frozenset[str] = frozenset()


@dataclass(slots=True, kw_only=True)
class Slotted:
    a: Any
    b: list[Any] = field(default_factory=list)


@dataclass(frozen=True, slots=True, order=True)
class Both:
    a: tuple[int, ...]


@dataclass
class Derived(Point):
    more: Any = None
    kind: ClassVar[str] = "derived"


@dataclass(slots=True)
class SlotsOnDict(Point):
    more: Any = None


class Plain(Derived):
    """A subclass of a dataclass that is not a dataclass itself."""


@dataclass
class Computed:
    """Counts its constructor's calls, and has an attribute that is not a field."""

    raw: int
    total: int = field(init=False)
    fixed: int = field(init=False, default=3)
    never: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        CREATED.append("Computed")
        self.raw += 1
        self.total = self.raw * 2
        self.note = ("not", "a", "field")

    @cached_property
    def dear(self) -> object:
        return object()


@dataclass
class Box(Generic[T]):
    item: T


@dataclass
class Chain:
    value: int
    next: Chain | None = None


@dataclass
class Empty:
    pass


@dataclass
class Shadow:
    """Fields with names that the codec or Python also use."""

    self: int
    cls: int
    items: list[int]
    keys: dict[str, int]


class Coordinates(NamedTuple):
    lat: float
    lon: float = 0.0


class Named(Coordinates):
    """A subclass of a named tuple, with a `__dict__`."""


Old = namedtuple("Old", "a b")


class Job(msgspec.Struct):
    id: int
    when: datetime | None = None
    tags: set[str] = msgspec.field(default_factory=set)


class Tagged(msgspec.Struct, frozen=True, tag=True, kw_only=True, rename="camel", omit_defaults=True, array_like=True):
    some_name: Any
    other_name: int | msgspec.UnsetType = msgspec.UNSET


class Open(msgspec.Struct, dict=True, weakref=True, cache_hash=True, frozen=True):
    a: int


class Doubling(msgspec.Struct):
    n: int

    def __post_init__(self) -> None:
        self.n *= 2


BOX = Box[int](3)
ODD: Any = ((1,), Color.RED)  # nobody has to keep to annotations
NAMED = Named(1.0, 2.0)
NAMED.note = "kept"  # type: ignore[attr-defined]
OPEN = Open(1)
vars(OPEN)["note"] = (1,)
VALUES: list[Any] = [
    Color.RED, Color.CRIMSON, Level.HIGH, Mode.FAST, Pair.ONE, {Color.RED: 1, Level.LOW: 2}, {Level.LOW: 1, 2: 2},
    {Mode.FAST},
    Access.READ, Access.READ | Access.WRITE, Access(0), ~Access.READ, Bits.A | Bits.TOP, Bits(0), Bits(4), Bits(-1),
    Point(1), Point(True, -0.0), Point(*ODD), Frozen("a"), {Frozen("a", frozenset({"b"})): [1]},
    Slotted(a=(1,), b=[2**70]),
    Both((1, 2)), {Both((1,)), Both((2,))}, Derived(1, 2.0, [Point(1)]), SlotsOnDict(1, 2.0, Point(3)),
    Plain(1, more={1: 2}),
    Box(1), Box((1,)), BOX, Box(Box(Box(None))), Chain(1, Chain(2, Chain(3))), Empty(), [Empty(), Empty()],
    Shadow(1, 2, [3], {"a": 4}), [Point(i) for i in range(300)], {"orders": [Derived(1, more=Color.RED)]},
    Coordinates(1.5), Coordinates(*ODD), Old(1, [2]), NAMED, {Coordinates(1.0): Coordinates(2.0)},
    Job(1), Job(2, datetime(2024, 1, 1, tzinfo=UTC), {"a"}), Tagged(some_name=Job(1)),
    Tagged(some_name=(1,), other_name=2),
    OPEN, {Open(2): 1}, Doubling(2),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: ascii(value)[:50])
@pytest.mark.parametrize("around", [lambda v: v, lambda v: Box([v, 2**90]), lambda v: {(1,): v}], ids="0bd")
def test_comes_back(comes_back: Callable[[Any], Any], around: Callable[[Any], Any], value: Any) -> None:
    """Every instance comes back with its class, fields and other attributes."""
    comes_back(around(value))


def test_another_process_reads(codec: MsgspecCodec) -> None:
    """A codec with registered classes decodes the bytes of another codec."""
    other = RegisteringCodec()
    for value in VALUES:
        codec.register(*(type(part) for part in (value, *(value if isinstance(value, list | set | dict) else ()))))
    codec.register(Color, Level, Mode, Job)

    assert [repr(codec.decode(other.encode(value))) for value in VALUES] == [repr(value) for value in VALUES]


def test_constructors_do_not_run(codec: MsgspecCodec) -> None:
    """A dataclass's `__post_init__` does not run again; attributes that it had set are restored."""
    value = Computed(1)
    _ = value.dear
    CREATED.clear()
    back = codec.decode(codec.encode(value))

    assert (CREATED, back.raw, back.total, back.fixed, back.note) == ([], 2, 4, 3, ("not", "a", "field"))
    assert "dear" not in vars(back)
    assert not hasattr(back, "never")


def test_struct_is_not_doubled(codec: MsgspecCodec) -> None:
    """A Struct's `__post_init__`, which always runs, changes nothing."""
    value = Doubling(2)

    assert value.n == 4
    assert codec.decode(codec.encode(value)).n == 4


def test_cached_hash(codec: MsgspecCodec) -> None:
    """A decoded Struct with a cached hash has the right hash."""
    assert hash(codec.decode(codec.encode(OPEN))) == hash(Open(1))


def test_enum_members_are_the_members(codec: MsgspecCodec) -> None:
    """Members come back as the very objects."""
    back = codec.decode(codec.encode([Color.RED, Level.LOW, Access.READ | Access.WRITE]))

    assert back[0] is Color.RED
    assert back[1] is Level.LOW
    assert back[2] is Access.READ | Access.WRITE


def test_money(comes_back: Callable[[Any], Any]) -> None:
    """An order with values of many types survives a round trip."""
    comes_back(Derived(1, more={"prices": [Decimal("1.10")], Color.RED: (Job(1), {Coordinates(1.0, 2.0)})}))
