"""Which states a task may return, read from what its author wrote."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from typing import Any, Literal

from cano.model.node import Node
from cano.model.task import FunctionTask, Task


def declared_targets(task: Task[Any]) -> tuple[Any, ...] | None:
    """The states that `task` says it may return, or None where it does not say."""
    if task.targets is not None:
        return tuple(task.targets)
    if isinstance(task, FunctionTask):
        return _literals(task.function)
    if isinstance(task, Node) and type(task).run is Node.run:
        return _literals(task.post)
    return _literals(task.run)


def _literals(function: Callable[..., Any]) -> tuple[Any, ...] | None:
    plain = getattr(function, "__func__", function)
    cells = zip(getattr(plain.__code__, "co_freevars", ()), plain.__closure__ or (), strict=False) \
        if hasattr(plain, "__code__") else ()  # fmt: skip
    try:
        # a state enum that is local to a function is known to the annotation through the closure only
        local = {name: cell.cell_contents for name, cell in cells}
        hint = typing.get_type_hints(plain, localns=local).get("return")
    except Exception:  # noqa: BLE001  # an annotation that cannot be evaluated declares nothing
        return None
    return _values(hint)


def _values(hint: Any) -> tuple[Any, ...] | None:
    origin = typing.get_origin(hint)
    if origin is Literal:
        return typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        parts = [_values(part) for part in typing.get_args(hint)]
        if all(part is not None for part in parts):
            return tuple(value for part in parts for value in part or ())
    return None
