"""Instances of msgspec's Struct.

msgspec has no way to make one without its `__post_init__`. So that one runs, and the fields are set to what they
were afterwards.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from msgspec.structs import force_setattr

from cano_msgspec._fields import fields_of
from cano_msgspec._kind import Kind, of_class


def kind_of(cls: Any) -> Kind | None:
    """The kind of a Struct."""
    if not issubclass(cls, Struct):
        return None
    names: tuple[str, ...] = cls.__struct_fields__
    own = fields_of(cls, names, {})
    changed_after = hasattr(cls, "__post_init__")

    def write(value: Any) -> tuple[Any, ...]:
        try:
            stored = {name: getattr(value, name) for name in names}
        except AttributeError as error:
            own.unset(error.name or "?")
        extras = own.extras(value)
        return (stored, extras) if extras else (stored,)

    def read(parts: list[Any]) -> Any:
        stored, *extras = parts
        if type(stored) is not dict:
            raise TypeError("the fields are no dict")
        value = cls(**stored)  # says which ones are missing or unknown
        if changed_after:
            for name, item in stored.items():
                force_setattr(value, name, item)
        own.restore(value, extras)
        return value

    return of_class(cls, write, read)
