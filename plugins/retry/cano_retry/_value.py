"""What strategies have in common as values: they never change, compare by content, and show it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn, Self


class Value:
    """An immutable object. Its content is in slots, set once by `_fill`."""

    __slots__ = ()

    def _fill(self, **content: object) -> None:
        for name, value in content.items():
            object.__setattr__(self, name, value)

    def _content(self) -> tuple[object, ...]:
        slots = (name for kind in type(self).__mro__ for name in kind.__dict__.get("__slots__", ()))
        return tuple(getattr(self, name) for name in slots)

    def _shown(self) -> Iterator[tuple[str, object]]:
        """The arguments that `repr` shows, by name; an empty name for a positional one."""
        return iter(())

    def __repr__(self) -> str:
        arguments = (f"{name}={_text(value)}" if name else _text(value) for name, value in self._shown())
        return f"{type(self).__name__}({', '.join(arguments)})"

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self) or not isinstance(other, Value):
            return NotImplemented
        return self._content() == other._content()

    def __hash__(self) -> int:
        return hash((type(self), self._content()))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} cannot be changed: make another one")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} cannot be changed: make another one")

    # nothing in it can change but a budget, and a budget has to stay the same one
    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __setstate__(self, state: tuple[None, Mapping[str, Any]]) -> None:
        # pickle would go through __setattr__
        self._fill(**state[1])


def _text(value: object) -> str:
    """`repr`, but classes and functions by name."""
    if isinstance(value, tuple):
        return f"({', '.join(map(_text, value))}{',' * (len(value) == 1)})"
    name = getattr(value, "__qualname__", None)
    return name if isinstance(name, str) else repr(value)
