"""Members of enums, stored by name, and combinations of flags, stored by value."""

from __future__ import annotations

from enum import Enum, EnumType, Flag
from typing import Any

from cano_msgspec._kind import Kind, Refusal, of_class


def kind_of(cls: type) -> Kind | None:
    """Return the kind of an enum, or None for another class."""
    if not isinstance(cls, EnumType):
        return None
    return _flag(cls) if issubclass(cls, Flag) else _enum(cls)


def _enum(cls: Any) -> Kind:
    members = cls.__members__

    def write(value: Enum) -> tuple[str]:
        name = value._name_
        if members.get(name) is not value:
            raise Refusal(f"{name!r} is not a member of {cls.__name__}", cls)
        return (name,)

    def read(parts: list[Any]) -> Any:
        (name,) = parts
        if name not in members:
            raise Refusal(f"{cls.__name__} has no member {ascii(name)[:80]}", cls)
        return members[name]

    return of_class(cls, write, read)


def _flag(cls: Any) -> Kind:
    max_bits = max(64, *(flag._value_.bit_length() for flag in cls.__members__.values()), 0)

    def write(value: Flag) -> tuple[int]:
        if value._value_.bit_length() > max_bits:
            raise Refusal(f"the flags of {cls.__name__} may have at most {max_bits} bits", cls)
        return (value._value_,)

    def read(parts: list[Any]) -> Any:
        (value,) = parts
        if type(value) is not int or value.bit_length() > max_bits:  # enum is slow for each bit
            raise TypeError(f"an integer of at most {max_bits} bits was expected")
        flag: Any = cls(value)
        if type(flag) is not cls or flag._value_ != value:  # an enum's boundary may drop bits or return an int
            raise Refusal(f"{cls.__name__} has no flags {value:#x}", cls)
        return flag

    return of_class(cls, write, read)
