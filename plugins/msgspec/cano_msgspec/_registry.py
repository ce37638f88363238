"""Which classes a codec may build, and under which names."""

from __future__ import annotations

import threading
from typing import Any
from weakref import WeakSet

from cano_msgspec import _dataclasses, _enums, _models, _named_tuples, _structs, _times
from cano_msgspec._annotations import classes_in
from cano_msgspec._kind import CLASS, Kind, Refusal, name_of
from cano_msgspec._reader import BUILTINS

_MAKERS = (
    _enums.kind_of,
    _named_tuples.kind_of,
    _structs.kind_of,
    _models.kind_of,
    _dataclasses.kind_of,
    _times.zone_kind_of,
)
_REMEMBERED = 1000


class Registry:
    """Kinds by class, for writing, and by name, for reading.

    Attributes:
        kinds: the kind of each class.
        names: the kind of the class that each name stands for.
    """

    def __init__(self) -> None:
        self.kinds: dict[type, Kind] = {kind.cls: kind for kind in BUILTINS}
        self.names: dict[bytes, Kind] = {}
        self._replaced: WeakSet[type] = WeakSet()
        self._done: set[Any] = set()
        self._lock = threading.RLock()

    def register(self, *annotations: Any) -> None:
        """Add the classes that annotations name, and those that their fields name. Passes over what has no kind."""
        for cls in classes_in(annotations):
            try:
                self._add(cls)
            except Refusal:
                continue  # an annotation may name anything; encoding a value of it says what is wrong

    def register_once(self, annotation: Any) -> None:
        """The same for an annotation that is met often."""
        try:
            if annotation in self._done:
                return
        except TypeError:  # not hashable, such as Annotated with a list in it
            self.register(annotation)
            return
        self.register(annotation)
        with self._lock:
            if len(self._done) >= _REMEMBERED:  # classes that are made on the fly must not pile up
                self._done.clear()
            self._done.add(annotation)

    def learn(self, cls: type) -> Kind:
        """The kind of a class that an instance was met of.

        Raises:
            Refusal: its instances cannot be kept, or its name stands for another class by now.
        """
        if cls in self._replaced:
            raise Refusal(f"{name_of(cls)} stands for another class of this name, registered later", cls)
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
                    self._done.clear()
                self._replaced.discard(cls)
                self.names[kind.name] = kind
            self.kinds[cls] = kind
            return kind


def _kind_of(cls: type) -> Kind:
    for make in _MAKERS:
        kind = make(cls)
        if kind is not None:
            return kind
    base = next((base for base in cls.__mro__[1:] if base in (str, int, float, bytes, list, dict, set, tuple)), None)
    more = f": it would come back as no more than a {base.__name__}" if base else ""
    raise Refusal(f"a {name_of(cls).replace(':', '.')} cannot be kept{more}", cls)
