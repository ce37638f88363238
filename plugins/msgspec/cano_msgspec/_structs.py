"""Instances of msgspec's Struct.

msgspec always runs a Struct's `__post_init__`. So the fields get their stored values again afterwards.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from msgspec.structs import force_setattr

from cano_msgspec._fields import fields_of
from cano_msgspec._kind import Kind, of_class


def kind_of(cls: Any) -> Kind | None:
    """Return the kind of a Struct, or None for another class."""
    if not issubclass(cls, Struct):
        return None
    names: tuple[str, ...] = cls.__struct_fields__
    fields = fields_of(cls, names, {})
    changed_after = hasattr(cls, "__post_init__")

    def write(value: Any) -> tuple[Any, ...]:
        try:
            stored = {name: getattr(value, name) for name in names}
        except AttributeError as error:
            fields.refuse_unset(error.name or "?")
        extras = fields.extras(value)
        return (stored, extras) if extras else (stored,)

    def read(parts: list[Any]) -> Any:
        stored, *extras = parts
        if type(stored) is not dict:
            raise TypeError("the fields are not a dict")
        value = cls(**stored)  # raises an error that names missing or unknown fields
        if changed_after:
            for name, item in stored.items():
                force_setattr(value, name, item)
        fields.restore(value, extras)
        return value

    return of_class(cls, write, read)
