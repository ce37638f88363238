"""A scheduler for Cano workflows: by the clock, by events and by hand."""

import typing

from cano.lazy_names import lazy_names as _lazy_names

__all__ = ["FlowInfo", "Scheduler", "Tick", "nominal_time"]

if typing.TYPE_CHECKING:
    from cano_scheduler.info import FlowInfo
    from cano_scheduler.nominal import nominal_time
    from cano_scheduler.scheduler import Scheduler
    from cano_scheduler.tick import Tick
else:
    __getattr__, __dir__ = _lazy_names(
        __name__, {"info": "FlowInfo", "scheduler": "Scheduler", "tick": "Tick", "nominal": "nominal_time"}
    )
