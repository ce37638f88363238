"""The hooks with which other plugins observe the scheduler.

Each is called with a `Tick` after it is decided, in the order of decisions, in the process that decided. An observer
cannot fail a schedule: as for the kernel's lifecycle hooks, exceptions are counted and the first is logged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cano import hookspec

if TYPE_CHECKING:
    from cano_scheduler.tick import Tick


@hookspec
def cano_schedule_fired(tick: Tick) -> None:
    """Called when a run starts on time, only in the process that starts it.

    :param tick: the decision; `tick.run_id` is the id of the run.
    """


@hookspec
def cano_schedule_late(tick: Tick) -> None:
    """Called when a run starts more than the schedule's `grace` after its due time: it was missed or queued.

    :param tick: the decision; `tick.delay` is the delay in seconds, `tick.reason` its cause.
    """


@hookspec
def cano_schedule_skipped(tick: Tick) -> None:
    """Called when times are skipped. Adjacent times that are skipped for the same reason share one tick.

    :param tick: the decision; `tick.reason` is the cause, `tick.times` the number of times.
    """
