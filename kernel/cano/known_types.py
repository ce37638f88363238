"""The types that a workflow's own code names: what a codec may build when it reads this workflow's runs."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cano.node import Node
from cano.store import Key
from cano.task import FunctionTask, Task

if TYPE_CHECKING:
    from cano.workflow import Workflow


def known_types(flow: Workflow[Any]) -> Iterator[Any]:
    """The states' enum, the workflow's `types`, the annotations of its tasks, and the `Key`s that their code uses."""
    yield type(flow.start)
    yield from flow.types
    for registration in flow.tasks.values():
        for task in (registration.task, *getattr(registration.task, "branches", ())):
            for function in _functions(task):
                yield from _named_by(function)


def _functions(task: Any) -> Iterator[Any]:
    if isinstance(task, FunctionTask):
        yield task.function
    elif isinstance(task, Node):
        yield from (task.prep, task.exec, task.post, task.exec_fallback)
    elif isinstance(task, Task):
        yield task.run
    else:
        yield task


def _named_by(function: Any) -> Iterator[Any]:
    function = getattr(function, "func", function)  # what a functools.partial is of
    function = getattr(function, "__func__", function)
    with suppress(Exception):  # an annotation that cannot be evaluated names no type
        yield from typing.get_type_hints(function).values()
    code = getattr(function, "__code__", None)
    names = getattr(function, "__globals__", {})
    for name in () if code is None else code.co_names:
        if isinstance(used := names.get(name), Key):
            yield used.type
