"""Instances of dataclasses. Their fields are restored; `__init__` and `__post_init__` do not run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from inspect import getattr_static
from types import MemberDescriptorType as _Slot
from typing import Any

from cano_msgspec._fields import check_layout, fields_of
from cano_msgspec._kind import Kind, Refusal, of_class

_set = object.__setattr__  # works even if the class is frozen
_get = object.__getattribute__  # ignores a __getattr__


def kind_of(cls: type) -> Kind | None:
    """Return the kind of a dataclass, or None for another class."""
    if not dataclasses.is_dataclass(cls):
        return None
    fields = dataclasses.fields(cls)
    names = [field.name for field in fields]
    for name, field in cls.__dataclass_fields__.items():  # dataclasses.fields() omits InitVars
        if field._field_type is dataclasses._FIELD_INITVAR:  # type: ignore[attr-defined]
            raise Refusal(f"{cls.__name__} has an InitVar {name!r}, whose value would be lost", cls)
    check_layout(cls, names)
    return _kind(cls, fields)


def _kind(cls: Any, declared: tuple[dataclasses.Field[Any], ...]) -> Kind:
    defaults = {field.name: make for field in declared if (make := _default(field)) is not None}
    fields = fields_of(cls, [f.name for f in declared], defaults, [f.name for f in declared if not f.init])
    names = fields.names
    in_dict = cls.__dictoffset__ != 0 and not any(isinstance(getattr_static(cls, name, None), _Slot) for name in names)

    def write(value: Any) -> tuple[Any, ...]:
        if in_dict and (held := value.__dict__).keys() == names:
            return (held,)
        stored = {}
        for field in declared:
            name = field.name
            try:
                stored[name] = _get(value, name)
            except AttributeError:
                if name in fields.required or name in fields.defaults:
                    fields.refuse_unset(name)
        extras = fields.extras(value)
        return (stored, extras) if extras else (stored,)

    def read(parts: list[Any]) -> Any:
        stored, *extras = parts
        value = object.__new__(cls)
        complete = fields.complete(stored)
        if in_dict:
            _set(value, "__dict__", complete)
        else:
            for name, item in complete.items():
                _set(value, name, item)
        fields.restore(value, extras)
        return value

    return of_class(cls, write, read)


def _default(field: dataclasses.Field[Any]) -> Callable[[], Any] | None:
    if field.default is not dataclasses.MISSING:
        return lambda: field.default
    return None if field.default_factory is dataclasses.MISSING else field.default_factory
