"""Executes tasks on a Ray cluster."""

import typing

from cano.lazy_names import lazy_names as _lazy_names

if typing.TYPE_CHECKING:
    from cano_ray.executor import RayExecutor

__all__ = ["RayExecutor"]

if not typing.TYPE_CHECKING:
    __getattr__, __dir__ = _lazy_names(__name__, {"executor": "RayExecutor"})
