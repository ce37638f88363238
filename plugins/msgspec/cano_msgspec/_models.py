"""Instances of pydantic's BaseModel: fields, extra and private attributes, and which fields were set.

Models are restored without validation, since they were valid when they were written. This module never imports
pydantic, since a program with a model has imported it.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from cano_msgspec._fields import fields_of
from cano_msgspec._kind import Kind, Refusal, of_class

_set = object.__setattr__


def kind_of(cls: Any) -> Kind | None:
    """Return the kind of a pydantic model, or None for another class."""
    pydantic = sys.modules.get("pydantic")
    if pydantic is None or not issubclass(cls, pydantic.BaseModel):
        return None
    declared = cls.model_fields
    defaults = {
        name: partial(field.get_default, call_default_factory=True)
        for name, field in declared.items()
        if not field.is_required()
    }
    fields = fields_of(cls, declared, defaults)
    private = {name: attribute.get_default for name, attribute in cls.__private_attributes__.items()}
    is_root = issubclass(cls, pydantic.RootModel)
    undefined = type(pydantic.fields.PydanticUndefined)

    def write(value: Any) -> tuple[Any, ...]:
        held = value.__dict__
        stored = {name: held[name] for name in declared if name in held}
        if missing := fields.required - stored.keys():
            fields.refuse_unset(min(missing))
        if extras := fields.extras(value):
            raise Refusal(f"the {cls.__name__} has an attribute {min(extras)!r} that is not a field", cls)
        hidden = value.__pydantic_private__
        if hidden is not None:
            hidden = {name: item for name, item in hidden.items() if type(item) is not undefined}
        return stored, value.__pydantic_fields_set__, value.__pydantic_extra__, hidden

    def read(parts: list[Any]) -> Any:
        stored, were_set, more, hidden = parts
        value = object.__new__(cls)
        _set(value, "__dict__", fields.complete(stored))
        _set(value, "__pydantic_fields_set__", _subset(were_set, {*declared, *(more or ())}))
        if not is_root:
            if more is not None and (type(more) is not dict or cls.model_config.get("extra") != "allow"):
                raise Refusal(f"{cls.__name__} does not allow extra fields, but some were stored", cls)
            _set(value, "__pydantic_extra__", more)
            _set(value, "__pydantic_private__", _private(hidden))
        return value

    def _private(hidden: Any) -> dict[str, Any] | None:
        if hidden is None and not private:
            return None
        known: dict[str, Any] = {} if hidden is None else hidden
        _subset(set(known), private)
        made = {name: make() for name, make in private.items() if name not in known}
        return known | {name: item for name, item in made.items() if type(item) is not undefined}

    return of_class(cls, write, read)


def _subset(names: Any, of: Any) -> set[str]:
    if type(names) is not set or not names <= set(of):
        raise ValueError("names of fields that do not exist")
    return names
