"""Named tuples, stored with their field names so that a class can get new fields. `__new__` does not run."""

from __future__ import annotations

from functools import partial
from typing import Any

from cano_msgspec._fields import fields_of
from cano_msgspec._kind import Kind, identity, of_class


def kind_of(cls: Any) -> Kind | None:
    """Return the kind of a class made by `typing.NamedTuple` or `namedtuple`, or of a subclass, else None."""
    if not issubclass(cls, tuple) or not isinstance(names := getattr(cls, "_fields", None), tuple):
        return None
    defaults = {name: partial(identity, value) for name, value in cls._field_defaults.items()}
    fields = fields_of(cls, names, defaults)

    def write(value: Any) -> tuple[Any, ...]:
        stored = dict(zip(names, tuple.__iter__(value), strict=True))
        extras = fields.extras(value)
        return (stored, extras) if extras else (stored,)

    def read(parts: list[Any]) -> Any:
        stored, *extras = parts
        complete = fields.complete(stored)
        value = tuple.__new__(cls, [complete[name] for name in names])
        fields.restore(value, extras)
        return value

    return of_class(cls, write, read)
