"""`Value`: base class of immutable objects that compare by their fields and show them in `repr`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn, Self


class Value:
    """An immutable object. Its fields are slots, set once by `_set_fields`."""

    __slots__ = ()

    def _set_fields(self, **fields: object) -> None:
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def _fields(self) -> tuple[object, ...]:
        slots = (name for kind in type(self).__mro__ for name in kind.__dict__.get("__slots__", ()))
        return tuple(getattr(self, name) for name in slots)

    def _repr_arguments(self) -> Iterator[tuple[str, object]]:
        """Return the arguments that `repr` shows, with their names; a positional one has an empty name."""
        return iter(())

    def __repr__(self) -> str:
        arguments = (f"{name}={_text(value)}" if name else _text(value) for name, value in self._repr_arguments())
        return f"{type(self).__name__}({', '.join(arguments)})"

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self) or not isinstance(other, Value):
            return NotImplemented
        return self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash((type(self), self._fields()))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} cannot be changed; make a new one")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} cannot be changed; make a new one")

    # a copy is the object itself: it is immutable except for a budget, which copies must share
    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __setstate__(self, state: tuple[None, Mapping[str, Any]]) -> None:
        # pickle would call __setattr__
        self._set_fields(**state[1])


def _text(value: object) -> str:
    """Return `repr(value)`, but only the name of a class or function."""
    if isinstance(value, tuple):
        return f"({', '.join(map(_text, value))}{',' * (len(value) == 1)})"
    name = getattr(value, "__qualname__", None)
    return name if isinstance(name, str) else repr(value)
