"""The types that a workflow's own code names: what a codec may build when it reads this workflow's runs."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator
from contextlib import suppress
from types import CodeType, ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from cano.concurrency.subworkflow import SubWorkflow
from cano.model.node import Node
from cano.model.store import Key
from cano.model.task import FunctionTask, Task

if TYPE_CHECKING:
    from cano.model.workflow import Workflow


def known_types(flow: Workflow[Any]) -> Iterator[Any]:
    """The states' enum, the workflow's `types`, the annotations of its tasks, and the `Key`s that their code uses.

    So for the workflows that it runs as its parts: what they put out becomes its own data.
    """
    flows = [flow]
    for one in flows:
        yield type(one.start)
        yield from one.types
        for registration in one.tasks.values():
            for task in (registration.task, *getattr(registration.task, "branches", ())):
                if isinstance(task, SubWorkflow) and task.flow not in flows:
                    flows.append(task.flow)
                for function in functions_of(task):
                    yield from _annotated(function)
                    yield from (key.type for key in keys_used(function))


def functions_of(task: Any) -> Iterator[Any]:
    """The functions that a task, or a function that stands for one, consists of."""
    if isinstance(task, FunctionTask):
        yield task.function
    elif isinstance(task, Node):
        yield from (task.prep, task.exec, task.post, task.exec_fallback)
    elif isinstance(task, Task):
        yield task.run
    else:
        yield task


def keys_used(function: Any) -> Iterator[Key[Any]]:
    """The `Key`s that the code of `function` names."""
    if (function := _plain(function)) is None:
        return
    names = {*_names(function.__code__)}
    for used in (*dict(_closure(function)).values(), *map(function.__globals__.get, names)):
        if isinstance(used, Key):
            yield used
        elif isinstance(used, ModuleType):
            yield from (key for key in map(vars(used).get, names) if isinstance(key, Key))


def _plain(function: Any) -> Any:
    """The function with code in it that a callable is made of, or None."""
    function = getattr(function, "func", function)  # what a functools.partial is of
    if not hasattr(function, "__code__"):  # an object that can be called
        function = getattr(function, "__func__", getattr(type(function), "__call__", None))  # noqa: B004
    function = inspect.unwrap(function)
    return function if hasattr(function, "__code__") else None


def _annotated(function: Any) -> Iterator[Any]:
    if (function := _plain(function)) is None:
        return
    known = dict(_closure(function))
    for annotation in function.__annotations__.values():
        # each by itself: one that cannot be evaluated, such as a name imported for type checkers only, names no type
        with suppress(Exception):
            alone = SimpleNamespace(__annotations__={"it": annotation})
            yield from typing.get_type_hints(alone, function.__globals__, known).values()


def _closure(function: Any) -> Iterator[tuple[str, Any]]:
    """What a function knows of the function that it is local to."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        with suppress(ValueError):  # not assigned yet
            yield name, cell.cell_contents


def _names(code: CodeType) -> Iterator[str]:
    """The names that code uses, that of functions inside it included."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
