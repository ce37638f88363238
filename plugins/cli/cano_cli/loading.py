"""Importing the module of MODULE:FLOW and finding the workflow in it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import pkgutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from cano import Workflow

from cano_cli.errors import CliError, one_line
from cano_cli.finding import find_flow, suggestion
from cano_cli.places import raised_at, shown_path


def load_flow(target: str) -> Workflow[Any]:
    """Import and return the workflow that `target` names.

    Args:
        target: MODULE:FLOW. MODULE is the name of a module, which may be in the current directory, or the path of
            a .py file. FLOW is the attribute path of a `Workflow`, or of a function without arguments that
            returns one. Without :FLOW, it is the only workflow of the module.

    Raises:
        CliError: the module does not exist or cannot be imported, or it has no such workflow.
    """
    where, attribute = _split(target)
    module = _import_file(where) if _is_path(where) else _import_name(where)
    return find_flow(module, where, attribute)


def _split(target: str) -> tuple[str, str | None]:
    where, colon, attribute = target.rpartition(":")
    if not colon or "/" in attribute or "\\" in attribute:
        where, attribute_path = target, None  # C:\flows.py is a path
    else:
        attribute_path = attribute
    if not where:
        raise CliError(f"{target!r}: the module is missing; expected MODULE:FLOW, such as flows:main or flows.py:main")
    if attribute_path is not None and not all(part.isidentifier() for part in attribute_path.split(".")):
        raise CliError(f"{target!r}: {attribute_path!r} after the colon is not a name; expected MODULE:FLOW")
    return where, attribute_path


def _is_path(where: str) -> bool:
    return where.endswith(".py") or "/" in where or os.sep in where


def _import_file(where: str) -> ModuleType:
    """Import a .py file as a module, inside its package if it belongs to one."""
    file = Path(where).absolute()
    try:
        there = file.is_file()
    except OSError as error:  # such as a name that is too long for the file system
        raise CliError(f"{where!r} cannot be looked for: {error.strerror}") from error
    if not there or file.suffix != ".py":
        raise CliError(f"{where!r} {_why_no_file(file)}{_hint_for_file(file)}")
    root, parts = file.parent, [file.stem]
    if file.name == "__init__.py":
        root, parts = file.parent.parent, [file.parent.name]
    while (root / "__init__.py").is_file():
        root, parts = root.parent, [root.name, *parts]
    if any("." in part for part in parts):
        raise CliError(f"{where!r} cannot be imported: a module name cannot contain a dot; rename the file")
    # modules next to the file come first, as when Python runs it; the current directory is not searched
    if str(root) in sys.path:
        sys.path.remove(str(root))
    sys.path.insert(0, str(root))
    name = ".".join(parts)
    module = _import(name, where)
    found = getattr(module, "__file__", None)
    if found is None or os.path.realpath(found) != os.path.realpath(file):
        other = "one that is built into Python" if found is None else shown_path(found)
        raise CliError(f"{where!r} cannot be imported: another module is named {name!r} ({other}); rename the file")
    return module


def _why_no_file(file: Path) -> str:
    if file.is_dir():
        return "is a directory; expected a module name or the path of a .py file"
    if file.exists():
        return "is not a .py file; expected a module name or the path of a .py file"
    return "does not exist"


def _hint_for_file(file: Path) -> str:
    if file.name and file.suffix != ".py" and file.with_suffix(".py").is_file():
        return f"; did you mean {shown_path(str(file.with_suffix('.py')))}?"
    if file.exists():
        return ""
    if not file.parent.is_dir():
        return f": there is no directory {shown_path(str(file.parent))}"
    return suggestion(file.name, [path.name for path in file.parent.glob("*.py")])


def _import_name(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise CliError(f"{name!r} is not a module name; expected MODULE:FLOW, such as flows:main or flows.py:main")
    if (folder := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, folder)
    return _import(name, name)


def _import(name: str, shown: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # the module or one of its parent packages is missing; otherwise the module's own import failed
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise CliError(_unknown(name, error.name)) from error
        raise CliError(_raised(shown, error)) from error
    except SystemExit as error:
        guard = 'move the script\'s code below `if __name__ == "__main__":`'
        raise CliError(f"module {shown!r} called sys.exit({error.code!r}) on import; {guard}") from error
    except Exception as error:
        raise CliError(_raised(shown, error)) from error


def _raised(shown: str, error: Exception) -> str:
    lines = [f"module {shown!r} cannot be imported: {one_line(error)}"]
    if (place := raised_at(error)) is not None:
        lines.append(f"  at {place}")
    if isinstance(error, ModuleNotFoundError):
        lines.append("  Install the missing module into the environment of this command, or correct the import.")
    return "\n".join(lines)


def _unknown(name: str, missing: str) -> str:
    package, _, last = missing.rpartition(".")
    message = f"there is no module {missing!r}"
    if missing != name:
        message += f" (for {name!r})"
    if package:
        parent = sys.modules.get(package)
        folders = list(getattr(parent, "__path__", ()))
        if not folders:
            return f"{message}: {package!r} is a module, not a package; put a colon before a workflow's name"
        names = [module.name for module in pkgutil.iter_modules(folders)]
        return message + suggestion(last, names)
    file = Path(*name.split(".")).with_suffix(".py")
    message += f" in {Path.cwd()} or in the environment of this command"
    names = [module.name for module in pkgutil.iter_modules([str(Path.cwd())])]
    if close := suggestion(missing, names):
        return message + close
    found = sorted(shown_path(str(path)) for path in Path.cwd().glob(f"*/{file.name}"))
    return message + (f"; did you mean {found[0]}?" if found else "; for a file, give its path with .py")
