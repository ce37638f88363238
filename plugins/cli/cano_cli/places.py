"""Finding source locations in the user's own code."""

from __future__ import annotations

import inspect
import os
import re
import sys
import sysconfig
import traceback
from pathlib import Path
from typing import Any

import cano

_STDLIB = tuple(f"{Path(sysconfig.get_path(name)).resolve()}{os.sep}" for name in ("stdlib", "platstdlib"))
_INSTALLED = {"site-packages", "dist-packages"}


def raised_at(error: BaseException) -> str | None:
    """Return the innermost frame of the user's own code in the traceback of `error`.

    The format is `file:line in function: code`. The user's own code is not part of Cano, Python or an installed
    package. Without such a frame, the result is the frame where Cano called an installed package, or None.
    """
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f"{shown_path(error.filename)}:{error.lineno}" + _code(error.text)
    every = traceback.extract_tb(error.__traceback__)
    files, folders = {frame.filename for frame in every}, _ours()  # fewer than frames, of which there may be 1,000
    ours = {file for file in files if _is(file, folders)}
    installed = {file for file in files if _is_installed(file)}
    stdlib = {file for file in files - installed if _is(file, _STDLIB)}
    # the frames before Cano's first are the callers of Cano
    start = next((number for number, frame in enumerate(every) if frame.filename in ours), 0)
    frames = [frame for frame in every[start:] if frame.filename not in ours]
    foreign = [frame for frame in frames if frame.filename not in stdlib and not frame.filename.startswith("<frozen ")]
    own = [frame for frame in foreign if frame.filename not in installed]
    chosen = own[-1:] or foreign[:1]
    if not chosen:
        return None
    frame = chosen[0]
    return f"{shown_path(frame.filename)}:{frame.lineno} in {frame.name}" + _code(frame.line)


def propagated_through_cano(error: BaseException) -> bool:
    """Return whether the traceback of `error` begins in Cano's code: it propagated out of the task that raised it."""
    return error.__traceback__ is not None and _is(error.__traceback__.tb_frame.f_code.co_filename, _ours())


def defined_at(task: cano.Task[Any]) -> str | None:
    """Return where the code of `task` begins, as `file:line (task name)`; None if that is unknown, or in Cano."""
    function = task.function if isinstance(task, cano.FunctionTask) else type(task)
    try:
        file, line = inspect.getsourcefile(function), inspect.getsourcelines(function)[1]
    except (TypeError, OSError):
        return None
    return None if file is None or _is(file, _ours()) else f"{shown_path(file)}:{line} (task {task.name})"


def _ours() -> tuple[str, ...]:
    """Return the folders of the imported packages of Cano: the kernel and its plugins."""
    packages = [module for name, module in sys.modules.items() if name == "cano" or re.fullmatch(r"cano_\w+", name)]
    return tuple(f"{Path(str(package.__file__)).resolve().parent}{os.sep}" for package in packages)


def shown_path(path: str) -> str:
    """Return `path` relative to the current directory, or unchanged if it is outside."""
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
