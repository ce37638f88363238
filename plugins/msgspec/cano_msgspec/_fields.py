"""What is kept of an instance: its fields, and whatever else it carries in its `__dict__`.

Attributes that no field declares are kept too, since a `__post_init__` may have made them and does not run again.
What `cached_property` holds is not kept: it is worked out anew.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, NoReturn

from cano_msgspec._kind import Refusal

_MADE_BY_A_PROGRAM = 1 << 9  # Py_TPFLAGS_HEAPTYPE


@dataclass(frozen=True, slots=True, eq=False)
class Fields:
    """The fields of a class.

    Attributes:
        cls: the class.
        names: all of them.
        defaults: how to make the values of those that may be missing because the class is newer than the bytes.
        required: those that may not be missing.
        ignored: attributes that are not kept.
    """

    cls: type
    names: frozenset[str]
    defaults: Mapping[str, Callable[[], Any]]
    required: frozenset[str]
    ignored: frozenset[str]

    def extras(self, value: Any) -> dict[str, Any]:
        """The attributes of an instance that no field declares."""
        held = getattr(value, "__dict__", None)
        if not held:
            return {}
        return {name: held[name] for name in held if name not in self.names and name not in self.ignored}

    def complete(self, stored: Any) -> dict[str, Any]:
        """Stored fields, with the defaults of those that have come since."""
        if type(stored) is not dict:
            raise TypeError("the fields are no dict")
        if stored.keys() == self.names:
            return stored
        if unknown := stored.keys() - self.names:
            raise Refusal(f"{self.cls.__name__} has no field {_listed(unknown)}, which was stored", self.cls)
        if missing := self.required - stored.keys():
            raise Refusal(
                f"{self.cls.__name__} has a field {_listed(missing)}, which was not stored and has no default", self.cls
            )
        return stored | {name: make() for name, make in self.defaults.items() if name not in stored}

    def restore(self, value: Any, extras: list[Any]) -> None:
        """Give an instance back its attributes that no field declares."""
        for stored in extras:
            if type(stored) is not dict or not self.names.isdisjoint(stored):
                raise TypeError("the attributes are no dict, or some are fields")
            vars(value).update(stored)

    def unset(self, name: str) -> NoReturn:
        """Refuse an instance without a value for a field."""
        raise Refusal(f"a {self.cls.__name__} whose field {name!r} is not set", self.cls)


def fields_of(
    cls: type, names: Iterable[str], defaults: Mapping[str, Callable[[], Any]], optional: Iterable[str] = ()
) -> Fields:
    """The fields of a class; `optional` ones may be missing although they have no default."""
    names = frozenset(names)
    cached = (name for base in cls.__mro__ for name, held in vars(base).items() if isinstance(held, cached_property))
    required = names - defaults.keys() - frozenset(optional)
    return Fields(cls, names, defaults, required, frozenset(cached) | {"__orig_class__"})


def check_layout(cls: type, names: Iterable[str]) -> None:
    """Refuse a class whose instances hold more than their fields and their `__dict__`."""
    names = frozenset(names)
    for base in cls.__mro__:
        if not base.__flags__ & _MADE_BY_A_PROGRAM and base is not object and base is not Generic:
            raise Refusal(f"{cls.__name__} is a {base.__name__} too, whose content would be lost", cls)
        slots = base.__dict__.get("__slots__", ())
        slots = {slots} if isinstance(slots, str) else {*slots}
        if more := slots - names - {"__dict__", "__weakref__"}:
            raise Refusal(f"{cls.__name__} has a slot {_listed(more)} that is no field", cls)
    for name in names:
        held = inspect.getattr_static(cls, name, None)
        if hasattr(type(held), "__set__") and not isinstance(held, types.MemberDescriptorType):
            raise Refusal(f"the field {name!r} of {cls.__name__} is a descriptor", cls)


def _listed(names: Iterable[Any]) -> str:
    return ", ".join(sorted(ascii(name)[:80] for name in names))
