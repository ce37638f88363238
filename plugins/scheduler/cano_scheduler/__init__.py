"""A scheduler for Cano workflows: by the clock, by events and by hand."""

import importlib
import typing

if typing.TYPE_CHECKING:
    from cano_scheduler.info import FlowInfo
    from cano_scheduler.nominal import nominal_time
    from cano_scheduler.scheduler import Scheduler
    from cano_scheduler.tick import Tick

__all__ = ["FlowInfo", "Scheduler", "Tick", "nominal_time"]

# Every kernel imports this package to find the plugin, so the scheduler itself is imported on first use.
_LATE = {"FlowInfo": "info", "Scheduler": "scheduler", "Tick": "tick", "nominal_time": "nominal"}

if not typing.TYPE_CHECKING:  # with this function, type checkers would accept every name

    def __getattr__(name: str) -> typing.Any:
        if name not in _LATE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_LATE[name]}"), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
