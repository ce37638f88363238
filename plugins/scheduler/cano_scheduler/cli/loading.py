"""Importing the module of MODULE:SCHEDULER and finding the scheduler in it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from cano_scheduler.cli.formatting import shown
from cano_scheduler.scheduler import Scheduler


class UsageError(click.ClickException):
    """A usage error, such as a scheduler that does not exist. Exit code 2."""

    exit_code = 2

    def format_message(self) -> str:
        """Return the message as it is printed: in one line."""
        return shown(self.message)


def load_scheduler(target: str) -> Scheduler:
    """Import and return the scheduler that `target` names.

    Args:
        target: MODULE:SCHEDULER. MODULE is the name of a module or the path of a .py file. SCHEDULER is a `Scheduler`
            in it, or a function without arguments that returns one. Without it, it is the only one of the module.

    Raises:
        UsageError: there is no such module or scheduler.
    """
    where, colon, name = target.rpartition(":")
    if not colon:
        where, name = target, ""
    module = _imported(where)
    if not name:
        found = {id(value): value for value in vars(module).values() if isinstance(value, Scheduler)}
        if len(found) != 1:
            raise UsageError(f"there are {len(found)} schedulers in {where!r}, not one; name one: {where}:NAME")
        return next(iter(found.values()))
    value: Any = getattr(module, name, None)
    if value is None:
        raise UsageError(f"there is no {name!r} in {where!r}")
    if callable(value) and not isinstance(value, Scheduler):
        try:
            value = value()
        except Exception as error:
            raise UsageError(f"{target}() raised {type(error).__name__}: {error}") from error
    if not isinstance(value, Scheduler):
        kind = type(value).__name__
        raise UsageError(f"{target!r} is of type {kind}; expected a Scheduler, or a function that returns one")
    return value


def _imported(where: str) -> ModuleType:
    folder, name = Path.cwd(), where
    if where.endswith(".py"):
        file = Path(where).absolute()
        try:
            there = file.is_file()
        except OSError as error:  # such as a name that is too long for the file system
            raise UsageError(f"{where!r} cannot be looked for: {error.strerror}") from error
        if not there:
            raise UsageError(f"{where!r} does not exist")
        folder, name = file.parent, file.stem
    if not name or not all(part.isidentifier() for part in name.split(".")):
        expected = "expected MODULE:SCHEDULER, such as jobs:scheduler or jobs.py:scheduler"
        raise UsageError(f"{where!r} is not a module name; {expected}")
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise UsageError(f"module {where!r} cannot be imported: {type(error).__name__}: {error}") from error
