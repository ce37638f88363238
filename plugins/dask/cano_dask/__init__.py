"""Executes tasks on a Dask cluster."""

import typing

from cano.lazy_names import lazy_names as _lazy_names

if typing.TYPE_CHECKING:
    from cano_dask.executor import DaskExecutor

__all__ = ["DaskExecutor"]

if not typing.TYPE_CHECKING:
    __getattr__, __dir__ = _lazy_names(__name__, {"executor": "DaskExecutor"})
