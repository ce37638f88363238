"""`Writer`: converts a value to the types that msgspec packs: plain values, lists, dicts and tagged arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cano_msgspec import _numbers, _text
from cano_msgspec._kind import DEPTH, PLAIN, Refusal, at_index, at_key

if TYPE_CHECKING:
    from cano_msgspec._registry import Registry

_CAREFUL = PLAIN - {int, str}


class Writer:
    """Converts one value.

    Args:
        registry: the kinds of values.
        careful: whether to check each integer and string, since MessagePack cannot represent all of them.

    Attributes:
        tagged: whether the result contains a tag.
    """

    __slots__ = ("kind_for", "kinds", "plain", "tagged")

    def __init__(self, registry: Registry, careful: bool = False) -> None:
        self.kinds = registry.kinds
        self.kind_for = registry.kind_for
        self.plain = _CAREFUL if careful else PLAIN
        self.tagged = False

    def write(self, value: Any, depth: int = 0) -> Any:
        """Return `value` with each part that MessagePack cannot represent replaced by a tagged array.

        If there is no such part, return `value` itself.

        Raises:
            Refusal: a part has an unsupported type.
        """
        # one Python frame per level and none for plain values, which decides the possible depth and the speed
        cls = type(value)
        plain = self.plain
        if cls in plain:
            return value
        if depth >= DEPTH:
            raise Refusal("it is nested too deeply, or contains itself", cls)
        if cls is list:
            if plain.issuperset(map(type, value)):
                return value
            items = [*value]
            try:
                for index, item in enumerate(value):
                    if type(item) not in plain:
                        items[index] = self.write(item, depth + 1)
            except Refusal as refusal:
                refusal.within(at_index(value, index))
                raise
            return items
        if cls is dict and plain.issuperset(map(type, value)):
            if plain.issuperset(map(type, value.values())):
                return value
            entries = {**value}
            try:
                for key, item in value.items():
                    if type(item) not in plain:
                        entries[key] = self.write(item, depth + 1)
            except Refusal as refusal:
                refusal.within(at_key(key))
                raise
            return entries
        if (cls is int and _numbers.fits(value)) or (cls is str and _text.fits(value)):
            return value
        kind = self.kinds.get(cls) or self.kind_for(cls)
        self.tagged = True
        parts = kind.write(value)
        tagged = [kind.tag, *parts]
        try:
            for index, part in enumerate(parts):
                if type(part) not in plain:
                    tagged[index + 1] = self.write(part, depth + 1)
        except Refusal as refusal:
            refusal.within(kind.step(parts, index))
            raise
        return tagged
