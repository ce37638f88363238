"""`nominal_time`: the time that a scheduled run is for."""

from __future__ import annotations

from contextvars import ContextVar
from datetime import datetime
from typing import Any

from cano import current_step

from cano_scheduler._times import nominal_of

_inherited: ContextVar[datetime | None] = ContextVar("cano_scheduler_nominal_time", default=None)


def nominal_time(run_id: str | None = None) -> datetime | None:
    """Return the nominal time of a run, in UTC; None for events and triggers.

    Unlike the current time, it is the same in every attempt and after a crash. Use it, for example, for the period
    that a report covers.

    Args:
        run_id: the run's id; by default, the run of the current task.
    """
    if run_id is not None:
        return nominal_of(run_id)
    run: Any = current_step().run
    while run is not None:  # a sub-workflow has the nominal time of its parent
        if (found := nominal_of(run.run_id)) is not None:
            return found
        run = run.parent
    return _inherited.get()


def inherit_nominal_time() -> None:
    """Pass the nominal time of the current run to the runs that the current task starts."""
    _inherited.set(nominal_time())
