"""A kind: what the writer and the reader know about the values of one type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec.msgpack import Ext

PLAIN = frozenset({type(None), bool, int, float, str, bytes})  # what MessagePack keeps by itself
BUILTIN, CLASS = 1, 2  # codes of tags: of the codec's own types, and of the program's classes
DEPTH = 400  # levels of arrays and maps; an object takes two


class Refusal(Exception):
    """A value cannot be kept, or not be read. On its way out each level adds where it was.

    Attributes:
        reason: why.
        actual: type of the value, where there is one.
    """

    def __init__(self, reason: str, actual: type | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.actual = actual
        self._steps: list[str] = []

    def within(self, step: str) -> None:
        """Put one more step before those that are known."""
        self._steps.append(step)

    @property
    def path(self) -> str:
        """Where in the value, such as `$.items[3].price`."""
        steps = [step for step in reversed(self._steps) if step]
        return "$" + "".join(steps if len(steps) < 20 else [*steps[:10], " … ", *steps[-9:]])


def at_index(parts: Sequence[Any], index: int) -> str:
    """The step to an item of a sequence."""
    return f"[{index}]"


def at_key(key: object) -> str:
    """The step to what a key or an attribute names."""
    if type(key) is str and key.isidentifier():
        return f".{key[:60]}"
    if isinstance(key, str | bytes):
        key = key[:60]
    elif type(key) not in PLAIN or (isinstance(key, int) and key.bit_length() > 256):
        return f"[{type(key).__name__}]"  # whose repr may be long, or anything
    return f"[{key!a}]"


def nowhere(parts: Sequence[Any], index: int) -> str:
    """The step to a part that no program sees by itself."""
    return ""


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """How values of one type are taken apart and put together. What the parts are made of is others' concern.

    Attributes:
        cls: the type.
        code: `BUILTIN` or `CLASS`.
        name: what it is called in the bytes.
        write: the parts of a value, all of types that have a kind, or are plain, or a list or dict.
        read: the value made of such parts. May raise anything where they are not what `write` gives.
        step: how to show the way to a part: of the parts and an index.
    """

    cls: type
    code: int
    name: bytes
    write: Callable[[Any], Any]
    read: Callable[[list[Any]], Any]
    step: Callable[[Any, int], str] = nowhere
    tag: Ext = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tag", Ext(self.code, self.name))  # made once, and stands before the parts


def builtin(
    cls: type,
    name: str,
    write: Callable[[Any], Any],
    read: Callable[[list[Any]], Any],
    step: Callable[[Any, int], str] = nowhere,
) -> Kind:
    """The kind of a type that is known to every program."""
    return Kind(cls, BUILTIN, name.encode(), write, read, step)


def whole(value: Any) -> Any:
    """A collection's parts are its items: itself."""
    return value


def of_class(cls: type, write: Callable[[Any], Any], read: Callable[[list[Any]], Any]) -> Kind:
    """The kind of a program's class."""
    return Kind(cls, CLASS, name_of(cls).encode(), write, read)


def name_of(cls: type) -> str:
    """The name that stands for a class: `module:qualname`."""
    return f"{cls.__module__}:{cls.__qualname__}"
