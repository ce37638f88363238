"""The hooks of the scheduler, for other plugins to observe it.

They are called with a `Tick` once it is decided, in the order in which the ticks were decided. What they raise is
reported once and counted, like that of the kernel's lifecycle hooks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cano import hookspec

if TYPE_CHECKING:
    from cano_scheduler.tick import Tick


@hookspec
def cano_schedule_fired(tick: Tick) -> None:
    """A run was started on time. Called in the process that starts it, and nowhere else.

    :param tick: what was decided; `tick.run_id` is the run.
    """


@hookspec
def cano_schedule_late(tick: Tick) -> None:
    """A run was started later than the schedule's `grace` allows: it was missed and caught up, or had to wait.

    :param tick: what was decided; `tick.delay` is by how much, `tick.reason` why.
    """


@hookspec
def cano_schedule_skipped(tick: Tick) -> None:
    """A time passed without a run. Adjacent times that were skipped for one reason come as one tick.

    :param tick: what was decided; `tick.reason` says why, `tick.times` how many times that are.
    """
