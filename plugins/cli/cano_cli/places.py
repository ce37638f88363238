"""Where in the user's own code something was raised."""

from __future__ import annotations

import inspect
import os
import sysconfig
import traceback
from pathlib import Path
from typing import Any

import cano

_OURS = tuple(f"{Path(str(file)).resolve().parent}{os.sep}" for file in (cano.__file__, __file__))
_STDLIB = tuple(f"{Path(sysconfig.get_path(name)).resolve()}{os.sep}" for name in ("stdlib", "platstdlib"))
_INSTALLED = {"site-packages", "dist-packages"}


def raised_at(error: BaseException) -> str | None:
    """`file:line in function: code` of the innermost frame of the user's own code in the traceback of `error`.

    The user's own code is what belongs neither to Cano nor to Python nor to an installed package. Where there is
    none, it is where Cano called into an installed package, and None where it did not.
    """
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f"{shown_path(error.filename)}:{error.lineno}" + _code(error.text)
    every = traceback.extract_tb(error.__traceback__)
    # what comes before Cano's first frame has called Cano
    start = next((number for number, frame in enumerate(every) if _is(frame.filename, _OURS)), 0)
    frames = [frame for frame in every[start:] if not _is(frame.filename, _OURS)]
    frames = [frame for frame in frames if not frame.filename.startswith("<frozen ")]
    foreign = [frame for frame in frames if not _is(frame.filename, _STDLIB) or _is_installed(frame.filename)]
    own = [frame for frame in foreign if not _is_installed(frame.filename)]
    chosen = own[-1:] or foreign[:1]
    if not chosen:
        return None
    frame = chosen[0]
    return f"{shown_path(frame.filename)}:{frame.lineno} in {frame.name}" + _code(frame.line)


def came_through_cano(error: BaseException) -> bool:
    """Whether the traceback of `error` begins in Cano's code: it left the task that raised it."""
    return error.__traceback__ is not None and _is(error.__traceback__.tb_frame.f_code.co_filename, _OURS)


def defined_at(task: cano.Task[Any]) -> str | None:
    """`file:line (task name)` where the code of `task` begins, if that is known."""
    function = task.function if isinstance(task, cano.FunctionTask) else type(task)
    try:
        file, line = inspect.getsourcefile(function), inspect.getsourcelines(function)[1]
    except (TypeError, OSError):
        return None
    return None if file is None else f"{shown_path(file)}:{line} (task {task.name})"


def shown_path(path: str) -> str:
    """`path` as a person in the current directory would write it."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except (ValueError, OSError):
        return path


def _code(line: str | None) -> str:
    return f": {line.strip()}" if line and line.strip() else ""


def _is(file: str, folders: tuple[str, ...]) -> bool:
    return os.path.realpath(file).startswith(folders)


def _is_installed(file: str) -> bool:
    return not _INSTALLED.isdisjoint(Path(file).parts)
