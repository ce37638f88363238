"""Executes tasks in worker processes of this machine."""

import typing

from cano.lazy_names import lazy_names as _lazy_names

if typing.TYPE_CHECKING:
    from cano_process.executor import ProcessExecutor

__all__ = ["ProcessExecutor"]

if not typing.TYPE_CHECKING:
    __getattr__, __dir__ = _lazy_names(__name__, {"executor": "ProcessExecutor"})
