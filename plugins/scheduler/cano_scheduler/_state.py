"""Where a schedule stands: all that its processes share, in plain values."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

from cano_scheduler.tick import Tick

ACTIVE, PAUSED, TRIPPED, REMOVED = "active", "paused", "tripped", "removed"


@dataclass(slots=True)
class Entry:
    """A run that is to start, under way, or waiting for those before it. Never changed: replaced.

    Attributes:
        run_id: its id.
        kind: what it comes from: "time", "event", "trigger" or "backfill".
        nominal: the nominal time, or None.
        due: the nominal time with its jitter; where there is none, when it came.
        at: when it was decided to start it.
        data: the run's own data, as the ledger packs them, which cover those of the schedule key by key; or None.
        cancelled: whether another run is to take its place.
    """

    run_id: str
    kind: str
    nominal: int | None
    due: int
    at: int
    data: Any = None
    cancelled: bool = False

    def packed(self) -> list[Any]:
        """It in plain values."""
        return [self.run_id, self.kind, self.nominal, self.due, self.at, self.data, self.cancelled]


@dataclass(slots=True)
class State:
    """Where a schedule stands. Changed by the functions of `_decide`, `_settle` and `_standing` alone.

    Attributes:
        definition: of the trigger that the cursor belongs to.
        anchor: what an interval counts from.
        cursor: the last nominal time that was decided; all before it are.
        standing: active, paused, tripped or removed.
        fired, late, skipped: how many nominal times ended so.
        runs, failures, cancelled: runs started, failed, and cancelled; each failure of a batch counts.
        streak: how many runs have failed in a row.
        blocked_until: until when the schedule backs off, or None.
        last_run: when a run was last started.
        last_error: what the last failed run failed with.
        active: the runs under way, by run id.
        queue: those that wait.
    """

    definition: str
    anchor: int
    cursor: int
    standing: str = ACTIVE
    fired: int = 0
    late: int = 0
    skipped: int = 0
    runs: int = 0
    failures: int = 0
    cancelled: int = 0
    streak: int = 0
    blocked_until: int | None = None
    last_run: int | None = None
    last_error: str | None = None
    active: dict[str, Entry] = field(default_factory=dict)
    queue: list[Entry] = field(default_factory=list)

    def copy(self) -> State:
        """A copy that shares nothing changeable with this."""
        return replace(self, active=dict(self.active), queue=list(self.queue))

    def running(self) -> list[Entry]:
        """The entries under way that nothing takes the place of."""
        return [entry for entry in self.active.values() if not entry.cancelled]

    def count(self, tick: Tick) -> None:
        """Count what became of a nominal time. Events and the like have no nominal time."""
        if tick.kind != "time":
            return
        if tick.outcome == "fired":
            self.fired += tick.times
        elif tick.outcome == "late":
            self.late += tick.times
        else:
            self.skipped += tick.times

    def packed(self) -> dict[str, Any]:
        """It in plain values."""
        plain = {name: getattr(self, name) for name in _PLAIN}
        plain["active"] = [entry.packed() for entry in self.active.values()]
        plain["queue"] = [entry.packed() for entry in self.queue]
        return plain

    @classmethod
    def unpacked(cls, plain: dict[str, Any]) -> State:
        """The state that `plain` was made of."""
        active = [Entry(*values) for values in plain["active"]]
        state = cls(**{name: plain[name] for name in _PLAIN})
        state.active = {entry.run_id: entry for entry in active}
        state.queue = [Entry(*values) for values in plain["queue"]]
        return state


_PLAIN = [field.name for field in fields(State) if field.name not in ("active", "queue")]
