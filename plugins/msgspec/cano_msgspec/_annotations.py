"""The classes in an annotation and in the annotations of their fields."""

from __future__ import annotations

import dataclasses
import inspect
import sys
import types
import typing
from collections.abc import Iterable, Iterator
from typing import Any

from msgspec import Struct


def classes_in(annotations: Iterable[Any]) -> Iterator[type]:
    """Return every class in the annotations, once. Ignore names that cannot be resolved."""
    pending = [*annotations]
    seen: set[Any] = set()
    while pending:
        annotation = pending.pop()
        if not _is_new(annotation, seen):
            continue
        if isinstance(annotation, type) and typing.get_origin(annotation) is None:
            yield annotation
            pending += _field_types(annotation)
        else:
            pending += _parts_of(annotation)


def _is_new(annotation: Any, seen: set[Any]) -> bool:
    try:
        is_new = annotation not in seen
        seen.add(annotation)
    except TypeError:  # unhashable annotations cannot be recursive
        return True
    return is_new


def _parts_of(annotation: Any) -> Iterable[Any]:
    """Return the annotations inside a typing construct."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return [annotation.__origin__]
    if origin is typing.Literal:
        return map(type, typing.get_args(annotation))
    if origin is not None:
        return [origin, *typing.get_args(annotation)]
    if isinstance(annotation, list | tuple):  # the parameters of a Callable
        return annotation
    if isinstance(annotation, typing.TypeVar):
        return [annotation.__bound__, *annotation.__constraints__]
    if isinstance(annotation, dataclasses.InitVar):
        return [annotation.type]
    return [alias_target(annotation)]


def alias_target(annotation: Any) -> Any:
    """Return the target of a NewType or of an alias made by the `type` statement, else None."""
    if isinstance(annotation, typing.NewType):
        return annotation.__supertype__
    if type(annotation).__name__ != "TypeAliasType":  # in Python 3.12 and later, and in typing_extensions
        return None
    try:
        return annotation.__value__  # Python evaluates it only now
    except NameError:
        return None


def is_typed_dict(annotation: Any) -> bool:
    """Return whether the annotation is a TypedDict of typing or typing_extensions."""
    return isinstance(annotation, type) and issubclass(annotation, dict) and hasattr(annotation, "__total__")


def _field_types(cls: Any) -> list[Any]:
    """Return the annotations of a class's fields, or an empty list for a class without fields."""
    pydantic = sys.modules.get("pydantic")
    if pydantic is not None and issubclass(cls, pydantic.BaseModel):
        fields = [field.annotation for field in cls.model_fields.values()]
        return [*fields, *cls.__pydantic_generic_metadata__["args"], *_hints(cls)]
    has_fields = (
        dataclasses.is_dataclass(cls)
        or is_typed_dict(cls)
        or issubclass(cls, Struct)
        or (issubclass(cls, tuple) and hasattr(cls, "_fields"))
    )
    return _hints(cls) if has_fields else []


def _hints(cls: type) -> list[Any]:
    try:
        return [*typing.get_type_hints(cls, include_extras=True).values()]
    except Exception:  # noqa: BLE001  one annotation cannot be resolved: resolve them one by one
        return [hint for base in cls.__mro__ for hint in _own_hints(base)]


def _own_hints(cls: type) -> Iterator[Any]:
    module = sys.modules.get(cls.__module__)
    known = {**vars(cls), cls.__name__: cls}  # a local class may refer to itself
    try:
        annotations = inspect.get_annotations(cls)
    except Exception:  # noqa: BLE001  Python 3.14 evaluates them only now
        return
    for name, hint in annotations.items():
        alone = types.SimpleNamespace(__annotations__={name: hint})
        try:
            hints = typing.get_type_hints(alone, vars(module) if module else {}, known, include_extras=True)
        except Exception:  # noqa: BLE001  this annotation cannot be resolved
            continue
        yield from hints.values()
