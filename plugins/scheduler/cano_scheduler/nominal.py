"""What a flow can ask about the time that it runs for."""

from __future__ import annotations

from contextvars import ContextVar
from datetime import datetime
from typing import Any

from cano import current_step

from cano_scheduler._times import nominal_of

_kept: ContextVar[datetime | None] = ContextVar("cano_scheduler_nominal_time", default=None)


def nominal_time(run_id: str | None = None) -> datetime | None:
    """The nominal time, in UTC, that a run was started for; None for events and triggers.

    It is the same on every attempt and after a crash, unlike the time on the clock: what a report covers should
    depend on it.

    Args:
        run_id: the run; by default the one whose task is running.
    """
    if run_id is not None:
        return nominal_of(run_id)
    run: Any = current_step().run
    while run is not None:  # a sub-workflow's run belongs to that of its parent
        if (found := nominal_of(run.run_id)) is not None:
            return found
        run = run.parent
    return _kept.get()


def keep_nominal_time() -> None:
    """Let runs that the present task starts, under ids of their own, have its nominal time."""
    _kept.set(nominal_time())
