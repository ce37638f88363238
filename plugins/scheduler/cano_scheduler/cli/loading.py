"""MODULE:SCHEDULER: importing a module, and the scheduler in it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from cano_scheduler.scheduler import Scheduler


class Wrong(click.ClickException):
    """What was asked for cannot be done. Exit code 2."""

    exit_code = 2


def load_scheduler(target: str) -> Scheduler:
    """The scheduler that `target` names.

    Args:
        target: MODULE:SCHEDULER. MODULE is a module's name, or a path to a .py file; SCHEDULER is a `Scheduler` in it,
            or a function without arguments that returns one. Left out, the module's only scheduler is meant.

    Raises:
        Wrong: there is no such module or scheduler.
    """
    where, colon, name = target.rpartition(":")
    if not colon:
        where, name = target, ""
    module = _imported(where)
    if not name:
        found = {id(value): value for value in vars(module).values() if isinstance(value, Scheduler)}
        if len(found) != 1:
            raise Wrong(f"there are {len(found)} schedulers in {where!r}; say which: {where}:NAME")
        return next(iter(found.values()))
    value: Any = getattr(module, name, None)
    if value is None:
        raise Wrong(f"there is no {name!r} in {where!r}")
    if callable(value) and not isinstance(value, Scheduler):
        try:
            value = value()
        except Exception as error:
            raise Wrong(f"{target}() raised {type(error).__name__}: {error}") from error
    if not isinstance(value, Scheduler):
        raise Wrong(f"{target!r} is a {type(value).__name__}; expected a Scheduler, or a function that returns one")
    return value


def _imported(where: str) -> ModuleType:
    folder, name = Path.cwd(), where
    if where.endswith(".py"):
        file = Path(where).absolute()
        if not file.is_file():
            raise Wrong(f"{where!r} does not exist")
        folder, name = file.parent, file.stem
    if not name or not all(part.isidentifier() for part in name.split(".")):
        raise Wrong(f"{where!r} is no module; expected MODULE:SCHEDULER, such as jobs:scheduler or jobs.py:scheduler")
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise Wrong(f"module {where!r} cannot be imported: {type(error).__name__}: {error}") from error
