"""From what msgspec has unpacked back to a value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from msgspec.msgpack import Ext

from cano_msgspec import _containers, _numbers, _text, _times
from cano_msgspec._kind import BUILTIN, CLASS, PLAIN, Kind, Refusal, at_index, at_key

if TYPE_CHECKING:
    from cano_msgspec._registry import Registry

BUILTINS = (*_numbers.KINDS, *_text.KINDS, *_times.KINDS, *_containers.KINDS)
_BY_NAME = {kind.name: kind for kind in (*BUILTINS, _times.PYDANTIC_ZONE)}


class Reader:
    """Puts values together, in place where it can: the lists and dicts are msgspec's, and nobody else's."""

    __slots__ = ("_names",)

    def __init__(self, registry: Registry) -> None:
        self._names = registry.names

    def read(self, node: Any) -> Any:
        """The value that was written.

        Raises:
            Refusal: a class is not registered, or what there is was not written by a `Writer`.
        """
        # One Python frame for each level, as in the writer.
        cls = type(node)
        if cls is list:
            kind = self._kind(node.pop(0)) if node and type(node[0]) is Ext else None
            if not PLAIN.issuperset(map(type, node)):
                try:
                    for index, item in enumerate(node):
                        if type(item) not in PLAIN:
                            node[index] = self.read(item)
                except Refusal as refusal:
                    refusal.within(kind.step(node, index) if kind else at_index(node, index))
                    raise
            return _made(kind, node) if kind else node
        if cls is dict:
            if not PLAIN.issuperset(map(type, node)):
                raise Refusal("the bytes are damaged: a key is not plain")
            try:
                for key, item in node.items():
                    if type(item) not in PLAIN:
                        node[key] = self.read(item)
            except Refusal as refusal:
                refusal.within(at_key(key))
                raise
            return node
        if cls in PLAIN:
            return node
        raise Refusal(f"the bytes are damaged: a {cls.__name__} by itself")

    def _kind(self, tag: Any) -> Kind:
        if tag.code == CLASS:
            kind = self._names.get(tag.data)
            if kind is None:
                name = ascii(str(tag.data, "utf-8", "replace")[:200])
                raise Refusal(f"the class {name} is not registered; pass it to the codec's register() first")
            return kind
        kind = _BY_NAME.get(tag.data) if tag.code == BUILTIN else None
        if kind is None:
            raise Refusal("the bytes are damaged, or of a later version: an unknown tag")
        return kind


def _made(kind: Kind, parts: list[Any]) -> Any:
    try:
        return kind.read(parts)
    except (Refusal, RecursionError):
        raise
    except Exception as error:  # a constructor's, about parts that are not what they should be
        raise Refusal(f"the bytes are damaged: no {kind.cls.__name__} can be made: {error}", kind.cls) from error


def no_tags(code: int, data: memoryview) -> NoReturn:
    """For bytes that say that they have no tags."""
    raise Refusal("the bytes are damaged: a tag where none was announced")
