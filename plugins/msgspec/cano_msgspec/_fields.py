"""`Fields`: the parts of an instance that are stored: its fields and the other attributes in its `__dict__`.

Attributes that are not fields are stored too, since a `__post_init__` may have set them and does not run again. Values
of `cached_property` are not stored, since they can be computed again.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, NoReturn

from cano_msgspec._kind import Refusal

_HEAPTYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE


@dataclass(frozen=True, slots=True, eq=False)
class Fields:
    """The fields of a class.

    Attributes:
        cls: the class.
        names: the names of all fields.
        defaults: functions that make the values of fields that were added after the bytes were written.
        required: the names of fields that must be stored.
        ignored: the names of attributes that are not stored.
    """

    cls: type
    names: frozenset[str]
    defaults: Mapping[str, Callable[[], Any]]
    required: frozenset[str]
    ignored: frozenset[str]

    def extras(self, value: Any) -> dict[str, Any]:
        """Return the attributes of an instance that are not fields."""
        held = getattr(value, "__dict__", None)
        if not held:
            return {}
        return {name: held[name] for name in held if name not in self.names and name not in self.ignored}

    def complete(self, stored: Any) -> dict[str, Any]:
        """Return the stored fields, and the defaults of fields that were added since."""
        if type(stored) is not dict:
            raise TypeError("the fields are not a dict")
        if stored.keys() == self.names:
            return stored
        if unknown := stored.keys() - self.names:
            raise Refusal(
                f"{self.cls.__name__} has no field {_format_names(unknown)}, which was stored; add it again", self.cls
            )
        if missing := self.required - stored.keys():
            raise Refusal(
                f"{self.cls.__name__} has a field {_format_names(missing)}, which was not stored; give it a default",
                self.cls,
            )
        return stored | {name: make() for name, make in self.defaults.items() if name not in stored}

    def restore(self, value: Any, extras: list[Any]) -> None:
        """Set the stored attributes of an instance that are not fields."""
        for stored in extras:
            if type(stored) is not dict or not self.names.isdisjoint(stored):
                raise TypeError("the attributes are not a dict, or some are fields")
            vars(value).update(stored)

    def refuse_unset(self, name: str) -> NoReturn:
        """Refuse an instance whose field `name` has no value."""
        raise Refusal(f"the field {name!r} of {self.cls.__name__} is not set", self.cls)


def fields_of(
    cls: type, names: Iterable[str], defaults: Mapping[str, Callable[[], Any]], optional: Iterable[str] = ()
) -> Fields:
    """Return the fields of a class. `optional` ones may have no value although they have no default."""
    names = frozenset(names)
    cached = (name for base in cls.__mro__ for name, held in vars(base).items() if isinstance(held, cached_property))
    required = names - defaults.keys() - frozenset(optional)
    return Fields(cls, names, defaults, required, frozenset(cached) | {"__orig_class__"})


def check_layout(cls: type, names: Iterable[str]) -> None:
    """Refuse a class whose instances contain data outside their fields and their `__dict__`."""
    names = frozenset(names)
    for base in cls.__mro__:
        if not base.__flags__ & _HEAPTYPE and base is not object and base is not Generic:
            raise Refusal(f"{cls.__name__} inherits from {base.__name__}, whose content would be lost", cls)
        slots = base.__dict__.get("__slots__", ())
        slots = {slots} if isinstance(slots, str) else {*slots}
        if more := slots - names - {"__dict__", "__weakref__"}:
            raise Refusal(f"{cls.__name__} has a slot {_format_names(more)} that is not a field", cls)
    for name in names:
        held = inspect.getattr_static(cls, name, None)
        if hasattr(type(held), "__set__") and not isinstance(held, types.MemberDescriptorType):
            raise Refusal(f"the field {name!r} of {cls.__name__} is a descriptor, which is not supported", cls)


def _format_names(names: Iterable[Any]) -> str:
    return ", ".join(sorted(ascii(name)[:80] for name in names))
