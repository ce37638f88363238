"""Executes tasks in other processes: packs calls for executors, and executes them there."""

import typing

from cano.lazy_names import lazy_names as _lazy_names

if typing.TYPE_CHECKING:
    from cano_remote.executing import execute
    from cano_remote.futures import FuturesExecutor

__all__ = ["FuturesExecutor", "execute"]

if not typing.TYPE_CHECKING:
    __getattr__, __dir__ = _lazy_names(__name__, {"executing": "execute", "futures": "FuturesExecutor"})
