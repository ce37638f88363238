"""What became of a schedule's time, event or trigger."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, NamedTuple

from cano_scheduler._times import SECOND, moment

Outcome = Literal["fired", "late", "skipped"]


class Tick(NamedTuple):
    """What became of one nominal time of a schedule, or of an event, a trigger or a backfilled time.

    Attributes:
        schedule: the schedule's id.
        kind: "time", "event", "trigger" or "backfill".
        outcome: "fired", "late" (fired, but later than the schedule's `grace` allows) or "skipped".
        reason: why it was skipped or late: "misfire", "overlap", "queue full", "queued", "paused", "tripped",
            "backoff" or "removed"; None where it was on time.
        run_id: the run that it started, or None.
        nominal_us: its nominal time in microseconds since the epoch; None for events and triggers.
        decided_us: when that was decided.
        times: how many nominal times this stands for: adjacent ones that were skipped for one reason share a tick.
        last_us: the last of those nominal times.
    """

    schedule: str
    kind: str
    outcome: Outcome
    reason: str | None
    run_id: str | None
    nominal_us: int | None
    decided_us: int
    times: int = 1
    last_us: int | None = None

    @property
    def nominal(self) -> datetime | None:
        """Its nominal time, in UTC; None for events and triggers."""
        return None if self.nominal_us is None else moment(self.nominal_us)

    @property
    def last(self) -> datetime | None:
        """The last nominal time that it stands for, in UTC."""
        return None if self.last_us is None else moment(self.last_us)

    @property
    def decided(self) -> datetime:
        """When it was decided, in UTC."""
        return moment(self.decided_us)

    @property
    def delay(self) -> float:
        """Seconds from the nominal time to the decision; jitter is part of it."""
        return 0.0 if self.nominal_us is None else (self.decided_us - self.nominal_us) / SECOND

    def packed(self) -> list[Any]:
        """It in plain values, for a store; the schedule is not among them."""
        return list(self[1:])

    @classmethod
    def unpacked(cls, schedule: str, values: list[Any]) -> Tick:
        """The tick that `values` were made of."""
        return cls(schedule, *values)
