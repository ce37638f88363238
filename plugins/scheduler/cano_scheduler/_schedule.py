"""A schedule as it was defined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cano import RetryStrategy, Workflow

from cano_scheduler._times import spread
from cano_scheduler._triggers import Trigger

Misfire = Literal["once", "skip", "all"]
Overlap = Literal["skip", "queue", "replace", "allow"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Schedule:
    """A schedule as it was defined; `Scheduler` explains the options.

    Attributes:
        id, flow, trigger: which it is, what it runs, and when.
        data: the data of its runs, or None.
        batch: how many runs the batch of each tick has; None is a run, not a batch.
        jitter, grace: microseconds.
        timeout: seconds, or None.
    """

    id: str
    flow: Workflow[Any]
    trigger: Trigger
    data: Mapping[str, Any] | None
    batch: int | None
    jitter: int
    grace: int
    misfire: Misfire
    limit: int
    overlap: Overlap
    overlap_limit: int | None
    timeout: float | None
    backoff: RetryStrategy | None
    trip_after: int | None

    def next(self, after: int, anchor: int) -> int | None:
        """The first nominal time later than `after`, or None."""
        return self.trigger.next(after, anchor)

    def due(self, nominal: int, anchor: int) -> int:
        """When a nominal time is due: with its jitter, which never reaches beyond the following nominal time."""
        if not self.jitter:
            return nominal
        following = self.trigger.next(nominal, anchor)
        room = self.jitter if following is None else min(self.jitter, following - nominal)
        return nominal + spread(self.id, nominal, room)
