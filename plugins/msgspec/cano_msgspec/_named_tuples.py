"""Named tuples, with the names, so that a class may get more fields. Their `__new__` does not run."""

from __future__ import annotations

from functools import partial
from typing import Any

from cano_msgspec._fields import fields_of
from cano_msgspec._kind import Kind, of_class


def kind_of(cls: Any) -> Kind | None:
    """The kind of a class made by `typing.NamedTuple` or `collections.namedtuple`, or derived from one."""
    if not issubclass(cls, tuple) or not isinstance(names := getattr(cls, "_fields", None), tuple):
        return None
    defaults = {name: partial(_same, value) for name, value in cls._field_defaults.items()}
    own = fields_of(cls, names, defaults)

    def write(value: Any) -> tuple[Any, ...]:
        stored = dict(zip(names, tuple.__iter__(value), strict=True))
        extras = own.extras(value)
        return (stored, extras) if extras else (stored,)

    def read(parts: list[Any]) -> Any:
        stored, *extras = parts
        complete = own.complete(stored)
        value = tuple.__new__(cls, [complete[name] for name in names])
        own.restore(value, extras)
        return value

    return of_class(cls, write, read)


def _same(value: Any) -> Any:
    return value
