"""Classes that have changed since their instances were written, and classes with the same name."""

from __future__ import annotations

import enum
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, make_dataclass
from typing import Any, NamedTuple

import msgspec
import pytest
from cano import SerializationError
from cano_msgspec import MsgspecCodec

from tests.plugins.msgspec.registering import RegisteringCodec


@dataclass
class Point:
    x: int
    y: float = 0.5


def changed(before: Any, **after: Any) -> Any:
    """Encode an instance of `before` and decode it as a class with the same name and the fields `after`."""
    codec = RegisteringCodec()
    data = codec.encode(before)
    kinds = [(name, Any, default) for name, default in after.items()]
    codec.register(make_dataclass(type(before).__name__, kinds, namespace={"__module__": __name__}))
    return codec.decode(data)


def test_a_new_field_takes_its_default() -> None:
    """A field added with a default gets the default in older instances."""
    now = changed(Point(1), x=field(), y=field(), z=field(default=5), w=field(default_factory=list))

    assert (now.x, now.y, now.z, now.w) == (1, 0.5, 5, [])


def test_a_new_field_without_default_is_refused() -> None:
    """A field added without a default is refused in older instances."""
    with pytest.raises(SerializationError, match=r"Point has a field 'z', which was not stored; give it a default"):
        changed(Point(1), x=field(), y=field(), z=field())


def test_a_field_that_is_gone_is_refused() -> None:
    """A stored field that the class no longer has is refused."""
    with pytest.raises(SerializationError, match=r"Point has no field 'y', which was stored"):
        changed(Point(1), x=field())


def test_fields_may_change_their_order() -> None:
    """Fields are identified by name, not by order."""
    now = changed(Point(1, 2.0), y=field(), x=field())

    assert (now.x, now.y) == (1, 2.0)


def test_other_classes_change_too() -> None:
    """NamedTuples and Structs follow the same rules; enums refuse removed members."""

    def versions(number: int) -> list[Any]:
        class Tuple(NamedTuple):
            a: int

        class Record(msgspec.Struct):
            a: int

        class Choice(enum.Enum):
            A = 1

        class Flags(enum.Flag):
            A = 1
            B = 2

        if number == 1:
            return [Tuple(1), Record(1), Choice.A, Flags.B]

        class Tuple(NamedTuple):  # type: ignore[no-redef]
            b: int = 2
            a: int = 3

        class Record(msgspec.Struct):  # type: ignore[no-redef]
            b: int = 2
            a: int = 3

        class Choice(enum.Enum):  # type: ignore[no-redef]
            B = 1

        class Flags(enum.Flag):  # type: ignore[no-redef]
            A = 1

        return [Tuple, Record, Choice, Flags]

    codec = RegisteringCodec()
    tuple_data, record_data, choice_data, flags_data = map(codec.encode, versions(1))
    codec.register(*versions(2))

    assert codec.decode(tuple_data)._asdict() == {"b": 2, "a": 1}
    assert msgspec.structs.asdict(codec.decode(record_data)) == {"b": 2, "a": 1}
    with pytest.raises(SerializationError, match="Choice has no member 'A'"):
        codec.decode(choice_data)
    with pytest.raises(SerializationError, match="Flags"):
        codec.decode(flags_data)


def local_class(default: int) -> Any:
    """Return a new class with the same name on each call."""

    @dataclass
    class Local:
        n: int = default

    return Local


def test_local_classes(codec: MsgspecCodec) -> None:
    """Instances of local classes survive a round trip within one codec."""
    cls = local_class(1)
    back = codec.decode(codec.encode([cls(2), cls()]))

    assert back == [cls(2), cls(1)]
    assert type(back[0]) is cls


def test_latest_class_of_a_name_wins(codec: MsgspecCodec) -> None:
    """Of two classes with the same name, the later one is decoded, and instances of the earlier one are refused."""
    first, second = local_class(1), local_class(2)
    data = codec.encode(first())
    codec.encode(second())

    assert type(codec.decode(data)) is second
    with pytest.raises(
        SerializationError, match=r"another class named .*local_class.<locals>.Local was registered later"
    ):
        codec.encode([first()])
    codec.register(first)
    assert type(codec.decode(codec.encode(first()))) is first
    with pytest.raises(SerializationError, match="register it again"):
        codec.encode(second())


def test_threads_share_a_codec(codec: MsgspecCodec) -> None:
    """Threads can encode, decode and register new classes at the same time."""

    def work(number: int) -> list[Any]:
        shared = [make_dataclass("Shared", ["n"]), Point]
        shared[0].__qualname__ = f"Shared{number % 4}.{number}"
        return [codec.decode(codec.encode([cls(n), {cls: (n,)}.get(cls)])) for n in range(200) for cls in shared]

    with ThreadPoolExecutor(8) as pool:
        for back in pool.map(work, range(32)):
            assert [(item.n if hasattr(item, "n") else item.x, rest) for item, rest in back] == [
                (n, (n,)) for n in range(200) for _ in "ab"
            ]


def test_replaced_classes_are_let_go(codec: MsgspecCodec) -> None:
    """A codec does not keep every local class alive."""
    for n in range(50):
        codec.decode(codec.encode(local_class(n)()), local_class(n))

    assert sum(cls.__name__ == "Local" for cls in codec._registry.kinds) == 1
