"""`Tick`: the outcome of a schedule's nominal time, event or trigger."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, NamedTuple

from cano_scheduler._times import SECOND, datetime_of

Outcome = Literal["fired", "late", "skipped"]


class Tick(NamedTuple):
    """The outcome of a nominal time, an event, a trigger or a backfilled time.

    Attributes:
        schedule: the schedule's id.
        kind: "time", "event", "trigger" or "backfill".
        outcome: "fired", "late" (fired more than the schedule's `grace` after its due time) or "skipped".
        reason: why it was late or skipped: "misfire", "overlap", "queue full", "queued", "paused", "tripped",
            "backoff" or "removed"; None if it was on time.
        run_id: the id of the started run, or None.
        nominal_us: the nominal time in microseconds since the epoch; None for events and triggers.
        decided_us: when the outcome was decided, in microseconds since the epoch.
        times: the number of nominal times: adjacent ones that were skipped for the same reason share a tick.
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
        """The nominal time in UTC; None for events and triggers."""
        return None if self.nominal_us is None else datetime_of(self.nominal_us)

    @property
    def last(self) -> datetime | None:
        """The last of the skipped nominal times, in UTC; None if none was skipped."""
        return None if self.last_us is None else datetime_of(self.last_us)

    @property
    def decided(self) -> datetime:
        """When the outcome was decided, in UTC."""
        return datetime_of(self.decided_us)

    @property
    def delay(self) -> float:
        """Seconds from the nominal time to the decision, jitter included; 0 without a nominal time."""
        return 0.0 if self.nominal_us is None else (self.decided_us - self.nominal_us) / SECOND

    def packed(self) -> list[Any]:
        """Return the tick as plain values, without the schedule's id."""
        return list(self[1:])

    @classmethod
    def unpacked(cls, schedule: str, values: list[Any]) -> Tick:
        """Create the tick from the result of `packed`."""
        return cls(schedule, *values)
