"""`Reader`: converts the output of msgspec's decoder back to a value."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NoReturn

from msgspec.msgpack import Ext

from cano_msgspec import _times
from cano_msgspec._builtins import BUILTINS
from cano_msgspec._kind import BUILTIN, CLASS, PLAIN, Kind, Refusal, at_index, at_key

if TYPE_CHECKING:
    from cano_msgspec._registry import Registry

_BY_NAME = {kind.name: kind for kind in (*BUILTINS, _times.PYDANTIC_ZONE)}


class Reader:
    """Builds values. It changes lists and dicts in place, since only msgspec's decoder has made them."""

    __slots__ = ("_names", "_wider")

    def __init__(self, registry: Registry) -> None:
        self._names = registry.names
        self._wider = registry.wider

    def read(self, node: Any) -> Any:
        """Return the value that a `Writer` converted to `node`.

        Raises:
            Refusal: a class is not registered, or no `Writer` made `node`.
        """
        # one Python frame per level, as in the writer
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
            return _build(kind, node) if kind else node
        if cls is dict:
            if not PLAIN.issuperset(map(type, node)):
                raise Refusal("the bytes are corrupt: a key is not plain")
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
        raise Refusal(f"the bytes are corrupt: a {cls.__name__} outside a tagged array")

    def _kind(self, tag: Any) -> Kind:
        if tag.code == CLASS:
            kind = self._names.get(tag.data) or self._wider.get(tag.data)
            if kind is None:
                raise Refusal(_unknown(str(tag.data, "utf-8", "replace")[:200]))
            return kind
        kind = _BY_NAME.get(tag.data) if tag.code == BUILTIN else None
        if kind is None:
            raise Refusal("the bytes are corrupt, or of a later version: an unknown tag")
        return kind


def _unknown(name: str) -> str:
    """Say what to do about the class `name`, `module:qualname`. It is not imported: the bytes may be anyone's."""
    module, _, qualname = name.partition(":")
    there = getattr(sys.modules.get(module), "__dict__", None)
    old = "if it was renamed or moved, keep a class with this name and these fields for old data"
    if there is not None and qualname.partition(".")[0] not in there:
        return f"the class {name!a} is not registered, and its module does not have it; {old}"
    remedy = "name it in Workflow(types=[…]), or pass it to the codec's register()"
    return f"the class {name!a} is not registered; {remedy}" + ("" if there is not None else f"; {old}")


def _build(kind: Kind, parts: list[Any]) -> Any:
    try:
        return kind.read(parts)
    except (Refusal, RecursionError):
        raise
    except Exception as error:  # a constructor refuses corrupt parts with any exception
        raise Refusal(f"the bytes are corrupt: cannot build a {kind.cls.__name__}: {error}", kind.cls) from error


def no_tags(code: int, data: memoryview) -> NoReturn:
    """Refuse a tag in bytes whose format byte declares none."""
    raise Refusal("the bytes are corrupt: a tag in an untagged format")
