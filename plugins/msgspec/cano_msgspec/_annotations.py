"""Which classes an annotation names, its own and those of their fields."""

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
    """Every class that is named, once. Names that cannot be resolved are passed over."""
    pending = [*annotations]
    met: set[Any] = set()
    while pending:
        annotation = pending.pop()
        if not _is_new(annotation, met):
            continue
        if isinstance(annotation, type) and typing.get_origin(annotation) is None:
            yield annotation
            pending += _field_types(annotation)
        else:
            pending += _inside(annotation)


def _is_new(annotation: Any, met: set[Any]) -> bool:
    try:
        is_new = annotation not in met
        met.add(annotation)
    except TypeError:  # not hashable, so not one that can lead back to itself
        return True
    return is_new


def _inside(annotation: Any) -> Iterable[Any]:
    """What a typing construct is made of."""
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
    return [stands_for(annotation)]


def stands_for(annotation: Any) -> Any:
    """What a NewType, or an alias made by the `type` statement, stands for. None for anything else."""
    if isinstance(annotation, typing.NewType):
        return annotation.__supertype__
    if type(annotation).__name__ != "TypeAliasType":  # there since Python 3.12, and in typing_extensions
        return None
    try:
        return annotation.__value__  # worked out only now
    except NameError:
        return None


def is_typed_dict(annotation: Any) -> bool:
    """Whether it is a TypedDict, be it typing's or that of typing_extensions."""
    return isinstance(annotation, type) and issubclass(annotation, dict) and hasattr(annotation, "__total__")


def _field_types(cls: Any) -> list[Any]:
    """The annotations of a class's fields, if it is one that has fields."""
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
    except Exception:  # noqa: BLE001  one of them cannot be resolved, for whatever reason: then each by itself
        return [hint for base in cls.__mro__ for hint in _own_hints(base)]


def _own_hints(cls: type) -> Iterator[Any]:
    module = sys.modules.get(cls.__module__)
    known = {**vars(cls), cls.__name__: cls}  # a local class may be named in its own fields
    try:
        annotations = inspect.get_annotations(cls)
    except Exception:  # noqa: BLE001  Python 3.14 works them out only now
        return
    for name, hint in annotations.items():
        alone = types.SimpleNamespace(__annotations__={name: hint})
        try:
            hints = typing.get_type_hints(alone, vars(module) if module else {}, known, include_extras=True)
        except Exception:  # noqa: BLE001  this is the one
            continue
        yield from hints.values()
