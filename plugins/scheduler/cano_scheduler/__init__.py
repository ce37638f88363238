"""A scheduler for Cano workflows: by the clock, by events and by hand."""

from cano_scheduler.info import FlowInfo
from cano_scheduler.nominal import nominal_time
from cano_scheduler.scheduler import Scheduler
from cano_scheduler.tick import Tick

__all__ = ["FlowInfo", "Scheduler", "Tick", "nominal_time"]
