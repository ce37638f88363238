"""Finding a workflow in a module."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from cano import Task, Workflow

from cano_cli.errors import CliError, one_line
from cano_cli.places import raised_at


def find_flow(module: ModuleType, where: str, attribute: str | None) -> Workflow[Any]:
    """Return the workflow at the path `attribute` of `module`, or its only workflow.

    Args:
        module: the module.
        where: the module's name or path as the user gave it.
        attribute: names separated by dots; None means the only workflow of the module.

    Raises:
        CliError: there is no workflow at the path, or no single one in the module.
    """
    if attribute is None:
        return _only_workflow(module, where)
    found: Any = module
    path = where
    for name in attribute.split("."):
        try:
            value = getattr(found, name)
        except AttributeError as error:
            raise CliError(_missing(found, path, name)) from error
        except Exception as error:
            raise CliError(f"reading {name!r} of {path!r} raised {one_line(error)}") from error
        path = f"{path}.{name}" if found is not module else f"{where}:{name}"
        found = value
    return found if isinstance(found, Workflow) else _call_factory(found, path)


def suggestion(wrong: str, names: Iterable[str]) -> str:
    """Return "; did you mean …?" with the name most similar to `wrong`, or "" if none is similar."""
    close = nearest(wrong, names)
    return f"; did you mean {close}?" if close else ""


def nearest(wrong: str, names: Iterable[str]) -> str | None:
    """Return the name most similar to `wrong`, or None if none is similar."""
    from difflib import get_close_matches  # late: rarely needed

    return next(iter(get_close_matches(wrong, sorted(names), n=1)), None)


def _workflows(holder: Any) -> dict[str, Workflow[Any]]:
    return {name: value for name, value in vars(holder).items() if isinstance(value, Workflow)}


def _only_workflow(module: ModuleType, where: str) -> Workflow[Any]:
    flows = _workflows(module)
    # a workflow may have several names in the module
    distinct = list({id(flow): flow for flow in flows.values()}.values())
    if len(distinct) == 1:
        return distinct[0]
    if not distinct:
        raise CliError(f"there is no workflow in module {where!r}; name a function that returns one: {where}:FUNCTION")
    lines = [f"there are {len(distinct)} workflows in module {where!r}; name one of them:"]
    raise CliError("\n".join([*lines, *(f"  {where}:{name}" for name in flows)]))


def _missing(holder: Any, path: str, name: str) -> str:
    message = f"there is no {name!r} in {path!r}"
    try:
        names = vars(holder)
    except TypeError:
        return message
    flows = _workflows(holder)
    message += suggestion(name, flows) or suggestion(name, names)
    separator = ":" if isinstance(holder, ModuleType) else "."
    if flows:
        return "\n".join([f"{message}\nWorkflows in it:", *(f"  {path}{separator}{flow}" for flow in flows)])
    return f"{message}\nIt has no workflow."


def _call_factory(factory: Any, path: str) -> Workflow[Any]:
    """Call a function without arguments and return its workflow."""
    kind = f"the class {factory.__name__}" if isinstance(factory, type) else f"of type {type(factory).__name__}"
    expected = "expected a Workflow, or a function without arguments that returns one"
    if isinstance(factory, Task) or not callable(factory):
        raise CliError(f"{path!r} is {kind}, not a workflow; {expected}")
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        raise CliError(f"{path!r} is {kind} and takes arguments; {expected}") from error
    except ValueError:
        pass  # some callables written in C have no signature
    try:
        flow = factory()
    except (Exception, SystemExit) as error:
        place = raised_at(error)
        raise CliError(f"{path}() raised {one_line(error)}" + (f"\n  at {place}" if place else "")) from error
    if inspect.iscoroutine(flow):
        flow.close()
        raise CliError(f"{path!r} is async; {expected}")
    if not isinstance(flow, Workflow):
        raise CliError(f"{path}() returned an object of type {type(flow).__name__}; {expected}")
    return flow
