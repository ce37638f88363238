"""`Registry`: the classes that a codec may build, and their names."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from weakref import WeakSet

from cano_msgspec import _dataclasses, _enums, _models, _named_tuples, _structs, _times
from cano_msgspec._annotations import classes_in
from cano_msgspec._builtins import BUILTINS
from cano_msgspec._kind import CLASS, Kind, Refusal, name_of, script_name_of

_KIND_FUNCTIONS = (
    _enums.kind_of,
    _named_tuples.kind_of,
    _structs.kind_of,
    _models.kind_of,
    _dataclasses.kind_of,
    _times.zone_kind_of,
)
_MAX_ANNOTATIONS = 1000


class Registry:
    """Kinds by class, for writing, and by name, for reading.

    Args:
        wider: the names of another registry, in which the reader looks for a name that this one lacks.

    Attributes:
        kinds: class -> its kind.
        names: name in the bytes -> the kind of the class with this name that was registered last.
        wider: the argument.
    """

    def __init__(self, wider: Mapping[bytes, Kind] = MappingProxyType({})) -> None:
        self.kinds: dict[type, Kind] = {kind.cls: kind for kind in BUILTINS}
        self.names: dict[bytes, Kind] = {}
        self.wider = wider
        self._replaced: WeakSet[type] = WeakSet()
        self._registered: set[Any] = set()
        self._lock = threading.RLock()

    def register(self, *annotations: Any) -> None:
        """Add the classes in annotations and in the annotations of their fields. Ignore unsupported types."""
        for cls in classes_in(annotations):
            try:
                self._add(cls)
            except Refusal:
                continue  # an annotation may contain any type; only encoding a value of it is an error

    def register_once(self, annotation: Any) -> None:
        """Register an annotation, and remember it so that the next call returns at once."""
        try:
            if annotation in self._registered:
                return
        except TypeError:  # not hashable, such as Annotated with a list in it
            self.register(annotation)
            return
        self.register(annotation)
        with self._lock:
            if len(self._registered) >= _MAX_ANNOTATIONS:  # bounds the memory for classes created at run time
                self._registered.clear()
            self._registered.add(annotation)

    def kind_for(self, cls: type) -> Kind:
        """Return the kind of the class of an instance.

        Raises:
            Refusal: the class is not supported or not registered, or another class with its name was registered later.
        """
        if cls in self._replaced:
            raise Refusal(
                f"another class named {name_of(cls)} was registered later; to encode instances of this one, "
                "register it again",
                cls,
            )
        if cls not in self.kinds and _kind_of(cls).code == CLASS:
            # if encoding registered it, the next process could not decode what this one has stored
            raise Refusal(
                f"the class {name_of(cls)!r} is not registered, so another process could not decode it; "
                f"name it in Workflow(types=[{cls.__name__}]), or pass it to the codec's register()",
                cls,
            )
        return self._add(cls)

    def _add(self, cls: type) -> Kind:
        with self._lock:
            known = self.kinds.get(cls)
            if known is not None:
                return known
            kind = _kind_of(cls)
            if kind.code == CLASS:
                former = self.names.get(kind.name)
                if former is not None:
                    del self.kinds[former.cls]
                    self._replaced.add(former.cls)
                    self._registered.clear()
                self._replaced.discard(cls)
                self.names[kind.name] = kind
                if (script_name := script_name_of(cls)) is not None:
                    self.names[script_name.encode()] = kind
            self.kinds[cls] = kind
            return kind


def _kind_of(cls: type) -> Kind:
    for make in _KIND_FUNCTIONS:
        kind = make(cls)
        if kind is not None:
            return kind
    base = next((base for base in cls.__mro__[1:] if base in (str, int, float, bytes, list, dict, set, tuple)), None)
    more = f"; its value would come back as a plain {base.__name__}" if base else ""
    raise Refusal(f"the type {name_of(cls).replace(':', '.')} is not supported{more}", cls)
