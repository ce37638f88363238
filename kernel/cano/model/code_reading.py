"""Reads the code of tasks: the states that they declare to return, their types, and the `Key`s that they use."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from types import CodeType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

from cano.data.store import ReadKey
from cano.model.node import Node
from cano.model.task import FunctionTask, Task

if TYPE_CHECKING:
    from cano.model.workflow import Workflow


def declared_targets(task: Task[Any]) -> tuple[Any, ...] | None:
    """Return the states that `task` declares to return, or None if it declares none."""
    if task.targets is not None:
        return tuple(task.targets)
    if isinstance(task, FunctionTask):
        function: Any = task.function
    else:
        function = task.post if isinstance(task, Node) and type(task).run is Node.run else task.run
    function = getattr(function, "__func__", function)
    try:
        # an annotation finds a state enum that is local to a function only through the closure
        local = _closure(function) if hasattr(function, "__code__") else {}
        return _literals(typing.get_type_hints(function, localns=local).get("return"))
    except Exception:  # noqa: BLE001  # an annotation that cannot be evaluated declares nothing
        return None


def types_of(flow: Workflow[Any]) -> Iterator[Any]:
    """Yield the types that the data of the workflow's runs may consist of.

    These are the states' enum, the workflow's `types` and those of its attributes, the types in the annotations of its
    tasks, and those of the `Key`s that their code uses. Sub-workflows are included, because their outputs become data
    of this run.
    """
    flows = [flow]
    for one in flows:
        yield type(one.start)
        yield from (*one.types, *one.attributes.values())
        for task in _tasks(one):
            part: Any = getattr(task, "flow", None) if isinstance(task, Task) else None  # of a sub-workflow
            if hasattr(part, "tasks") and part not in flows:
                flows.append(part)
            for function in functions_of(task):
                yield from _annotated(function)
                yield from (key.type for key in keys_used(function))


def declared_keys(flow: Workflow[Any]) -> set[ReadKey[Any]]:
    """Return the `Key`s that the code of the workflow's tasks uses."""
    return {key for task in _tasks(flow) for function in functions_of(task) for key in keys_used(function)}


def _tasks(flow: Workflow[Any]) -> Iterator[Any]:
    for registration in flow.tasks.values():
        yield from (registration.task, *getattr(registration.task, "branches", ()))


def functions_of(task: Any) -> Iterator[Any]:
    """Yield the functions that a task consists of. A plain function is its own."""
    if isinstance(task, FunctionTask):
        yield task.function
    elif isinstance(task, Node):
        yield from (task.prep, task.exec, task.post, task.exec_fallback)
    elif isinstance(task, Task):
        yield task.run
    else:
        yield task


def keys_used(function: Any) -> Iterator[ReadKey[Any]]:
    """Yield the `Key`s that the code of `function` uses."""
    if (function := _plain(function)) is None:
        return
    names = {*_names(function.__code__)}
    for used in (*_closure(function).values(), *map(function.__globals__.get, names)):
        if isinstance(used, ReadKey):
            yield used
        elif isinstance(used, ModuleType):
            yield from (key for key in map(vars(used).get, names) if isinstance(key, ReadKey))


def _plain(function: Any) -> Any:
    """Return the Python function inside a callable, or None if there is none."""
    # by type(), not by attribute or isinstance: a mock has every attribute and any class
    while isinstance(function, partial):
        function = function.func
    if type(function) not in (FunctionType, MethodType):  # a callable object
        function = getattr(type(function), "__call__", None)  # noqa: B004
    function = inspect.unwrap(getattr(function, "__func__", function))
    return function if type(function) is FunctionType else None


def _annotated(function: Any) -> Iterator[Any]:
    """Yield the types in the annotations of `function`."""
    if (function := _plain(function)) is None:
        return
    known = _closure(function)
    for annotation in function.__annotations__.values():
        # each by itself: one that cannot be evaluated, such as a name imported for type checkers only, is skipped
        with suppress(Exception):
            alone = SimpleNamespace(__annotations__={"it": annotation})
            yield from typing.get_type_hints(alone, function.__globals__, known).values()


def _closure(function: Any) -> Mapping[str, Any]:
    """Return the variables of outer functions that a function uses, by name."""
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        with suppress(ValueError):  # not assigned yet
            found[name] = cell.cell_contents
    return found


def _names(code: CodeType) -> Iterator[str]:
    """Yield the names that code uses, those in its inner functions included."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _literals(hint: Any) -> tuple[Any, ...] | None:
    """Return the values of a `Literal`, or of a union of `Literal`s; None for any other hint."""
    origin = typing.get_origin(hint)
    if origin is Literal:
        return typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        parts = [_literals(part) for part in typing.get_args(hint)]
        if all(part is not None for part in parts):
            return tuple(value for part in parts for value in part or ())
    return None
