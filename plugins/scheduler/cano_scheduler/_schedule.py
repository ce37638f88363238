"""The definition of a schedule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cano import RetryStrategy, Workflow

from cano_scheduler._times import jitter_of
from cano_scheduler._triggers import Trigger

Misfire = Literal["once", "skip", "all"]
Overlap = Literal["skip", "queue", "replace", "allow"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Schedule:
    """The definition of a schedule. `Scheduler` documents the options.

    Attributes:
        id, flow, trigger: its id, its workflow and its nominal times.
        data: the initial data of its runs, or None.
        batch: the number of runs in the batch of each tick; None if each tick starts a single run.
        jitter, grace: in microseconds.
        timeout: in seconds, or None.
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

    @property
    def origin(self) -> str:
        """The mark that the schedule's runs keep, so that no other run is taken for one of them."""
        return f"schedule {self.id} of {self.flow.name}"

    def next(self, after: int, anchor: int) -> int | None:
        """Return the first nominal time later than `after`, or None."""
        return self.trigger.next(after, anchor)

    def due(self, nominal: int, anchor: int) -> int:
        """Return a nominal time plus its jitter, which is always less than the time to the next nominal time."""
        if not self.jitter:
            return nominal
        following = self.trigger.next(nominal, anchor)
        room = self.jitter if following is None else min(self.jitter, following - nominal)
        return nominal + jitter_of(self.id, nominal, room)
