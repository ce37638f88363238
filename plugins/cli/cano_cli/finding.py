"""Finding a workflow in a module."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from cano import Task, Workflow

from cano_cli.errors import CliError, one_line
from cano_cli.places import raised_at


def find_flow(module: ModuleType, where: str, attribute: str | None) -> Workflow[Any]:
    """The workflow at the path `attribute` of `module`, or its only one.

    Args:
        module: the module.
        where: how the user has named it.
        attribute: names separated by dots; None asks for the only workflow there is.

    Raises:
        CliError: there is none, or what is there is none.
    """
    if attribute is None:
        return _only(module, where)
    found: Any = module
    walked = where
    for name in attribute.split("."):
        try:
            value = getattr(found, name)
        except AttributeError as error:
            raise CliError(_missing(found, walked, name)) from error
        except Exception as error:
            raise CliError(f"reading {name!r} of {walked!r} raised {one_line(error)}") from error
        walked = f"{walked}.{name}" if found is not module else f"{where}:{name}"
        found = value
    return found if isinstance(found, Workflow) else _made_by(found, walked)


def suggestion(wrong: str, names: Iterable[str]) -> str:
    """A hint at the name that is nearest to `wrong`, as the end of a message; empty where none is near."""
    close = difflib.get_close_matches(wrong, sorted(names), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _workflows(holder: Any) -> dict[str, Workflow[Any]]:
    return {name: value for name, value in vars(holder).items() if isinstance(value, Workflow)}


def _only(module: ModuleType, where: str) -> Workflow[Any]:
    flows = _workflows(module)
    # one workflow may have several names
    distinct = list({id(flow): flow for flow in flows.values()}.values())
    if len(distinct) == 1:
        return distinct[0]
    if not distinct:
        raise CliError(f"there is no workflow in module {where!r}; name a function that returns one: {where}:FUNCTION")
    lines = [f"there are {len(distinct)} workflows in module {where!r}; say which:"]
    raise CliError("\n".join([*lines, *(f"  {where}:{name}" for name in flows)]))


def _missing(holder: Any, walked: str, name: str) -> str:
    message = f"there is no {name!r} in {walked!r}"
    try:
        names = vars(holder)
    except TypeError:
        return message
    flows = _workflows(holder)
    message += suggestion(name, flows) or suggestion(name, names)
    separator = ":" if isinstance(holder, ModuleType) else "."
    if flows:
        return "\n".join([f"{message}\nWorkflows there:", *(f"  {walked}{separator}{flow}" for flow in flows)])
    return f"{message}\nThere is no workflow there."


def _made_by(factory: Any, path: str) -> Workflow[Any]:
    """The workflow that a function without arguments returns."""
    kind = f"the class {factory.__name__}" if isinstance(factory, type) else f"of type {type(factory).__name__}"
    expected = "expected a Workflow, or a function without arguments that returns one"
    if isinstance(factory, Task) or not callable(factory):
        raise CliError(f"{path!r} is {kind}, not a workflow; {expected}")
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        raise CliError(f"{path!r} is {kind} and takes arguments; {expected}") from error
    except ValueError:
        pass  # some callables written in C tell no signature
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
