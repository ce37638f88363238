"""`Kind`: how the writer and the reader convert the values of one type."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec.msgpack import Ext

PLAIN = frozenset({type(None), bool, int, float, str, bytes})  # MessagePack's own types
BUILTIN, CLASS = 1, 2  # codes of tags: for Python's types, and for the program's classes
_SCRIPTS = ("__main__", "__mp_main__")  # multiprocessing gives the script's module the second name
DEPTH = 400  # the largest number of nested arrays and maps; an object needs two


class Refusal(Exception):
    """A value cannot be encoded or decoded. Each level through which the exception passes adds its step to the path.

    Attributes:
        reason: the reason.
        actual: the type of the value, if known.
    """

    def __init__(self, reason: str, actual: type | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.actual = actual
        self._steps: list[str] = []

    def within(self, step: str) -> None:
        """Add a step in front of the path."""
        self._steps.append(step)

    @property
    def path(self) -> str:
        """The part of the value, such as `.items[3].price in the value`."""
        steps = [step for step in reversed(self._steps) if step]
        path = "".join(steps if len(steps) < 20 else [*steps[:10], " … ", *steps[-9:]])
        return f"{path} in the value" if path else "the value"


def at_index(parts: Sequence[Any], index: int) -> str:
    """Return the step to an item of a sequence."""
    return f"[{index}]"


def at_key(key: object) -> str:
    """Return the step to the value of a key or attribute."""
    if type(key) is str and key.isidentifier():
        return f".{key[:60]}"
    if isinstance(key, str | bytes):
        key = key[:60]
    elif type(key) not in PLAIN or (isinstance(key, int) and key.bit_length() > 256):
        return f"[{type(key).__name__}]"  # its repr may be long, or run the program's code
    return f"[{key!a}]"


def no_step(parts: Sequence[Any], index: int) -> str:
    """Return an empty step, for a part that is not visible in the value."""
    return ""


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """A conversion of values of one type to parts and back. The writer and the reader convert the parts themselves.

    Attributes:
        cls: the type.
        code: `BUILTIN` or `CLASS`.
        name: the type's name in the bytes.
        write: returns the parts of a value. Each is plain, a list, a dict, or of a type that has a kind.
        read: returns the value made of parts. May raise any exception if `write` did not make them.
        step: returns the step to a part for messages, from the parts and an index.
        tag: the tag in front of the parts, made once.
    """

    cls: type
    code: int
    name: bytes
    write: Callable[[Any], Any]
    read: Callable[[list[Any]], Any]
    step: Callable[[Any, int], str] = no_step
    tag: Ext = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tag", Ext(self.code, self.name))


def builtin(
    cls: type,
    name: str,
    write: Callable[[Any], Any],
    read: Callable[[list[Any]], Any],
    step: Callable[[Any, int], str] = no_step,
) -> Kind:
    """Return the kind of one of Python's types, which every program knows."""
    return Kind(cls, BUILTIN, name.encode(), write, read, step)


def identity(value: Any) -> Any:
    """Return the value itself, such as a collection, whose parts are its items."""
    return value


def of_class(cls: type, write: Callable[[Any], Any], read: Callable[[list[Any]], Any]) -> Kind:
    """Return the kind of a program's class."""
    return Kind(cls, CLASS, name_of(cls).encode(), write, read)


def name_of(cls: type) -> str:
    """Return the name of a class in the bytes: `module:qualname`.

    A class of the script that Python runs has the name under which other processes import it.
    """
    module = cls.__module__
    return f"{_import_name(module) if module in _SCRIPTS else module}:{cls.__qualname__}"


def script_name_of(cls: type) -> str | None:
    """Return the name that earlier versions gave to a class of the running script; None for any other class."""
    return f"__main__:{cls.__qualname__}" if cls.__module__ in _SCRIPTS else None


def _import_name(script: str) -> str:
    """Return the name under which other processes import the module that Python runs as a script."""
    module = sys.modules.get(script)
    if (spec := getattr(module, "__spec__", None)) is not None:  # python -m
        return str(spec.name)
    if (file := getattr(module, "__file__", None)) is None:  # an interactive session
        return "__main__"
    path = Path(file).absolute()
    names = [path.stem]
    while (path.parent / "__init__.py").is_file():
        path = path.parent
        names.insert(0, path.name)
    return ".".join(names)
