"""Names of a package that are imported when they are first used, so that a plugin costs little where it has no work."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["lazy_names"]


def lazy_names(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the functions `__getattr__` and `__dir__` of a package.

        if TYPE_CHECKING:
            from my_store.backend import MyBackend, connect
        else:
            __getattr__, __dir__ = lazy_names(__name__, {"backend": "MyBackend connect"})

    Args:
        package: its `__name__`.
        modules: each module of the package with its public names, separated by spaces.
    """
    there = vars(sys.modules[package])
    module_of = {name: module for module, listed in modules.items() for name in listed.split()}

    def found(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = there[name] = getattr(importlib.import_module(f"{package}.{module_of[name]}"), name)
        return value

    return found, lambda: sorted({*there, *module_of})
