"""The state of a schedule, which its processes share: plain values that a store can keep."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

from cano_scheduler.tick import Tick

ACTIVE, PAUSED, TRIPPED, REMOVED = "active", "paused", "tripped", "removed"


@dataclass(slots=True)
class Job:
    """A run of a schedule that is active or queued. It is replaced, never changed.

    All times are microseconds since the epoch.

    Attributes:
        run_id: the run's id.
        kind: its origin: "time", "event", "trigger" or "backfill".
        nominal: its nominal time, or None.
        due: the nominal time plus jitter; without a nominal time, when the event or trigger came.
        at: when its start was decided.
        data: the run's own data, packed by the repository, or None; its keys override those of the schedule.
        cancelled: whether another run replaces it.
    """

    run_id: str
    kind: str
    nominal: int | None
    due: int
    at: int
    data: Any = None
    cancelled: bool = False

    def packed(self) -> list[Any]:
        """Return the job as plain values."""
        return [self.run_id, self.kind, self.nominal, self.due, self.at, self.data, self.cancelled]


@dataclass(slots=True)
class State:
    """The state of a schedule. Only the functions of `_decide`, `_run_end` and `_lifecycle` change it.

    All times are microseconds since the epoch.

    Attributes:
        definition: the definition of the trigger that the cursor belongs to.
        anchor: the time from which an interval counts.
        cursor: the last decided nominal time; all earlier ones are decided, too.
        status: "active", "paused", "tripped" or "removed".
        fired, late, skipped: how many nominal times had that outcome.
        runs: the number of started runs.
        failures, cancelled: how many runs failed and were cancelled; in a batch each failure counts.
        streak: the number of consecutive failures.
        blocked_until: the end of the backoff, or None.
        last_run: when a run was last started, or None.
        last_error: the error of the last failed run, or None.
        active: the started jobs whose runs have not ended, by run id.
        queue: the queued jobs, in order.
        key: how the ids of its runs begin. The repository knows it.
    """

    definition: str
    anchor: int
    cursor: int
    status: str = ACTIVE
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
    active: dict[str, Job] = field(default_factory=dict)
    queue: list[Job] = field(default_factory=list)
    key: str = ""

    def copy(self) -> State:
        """Return a copy that shares no mutable object with this state."""
        return replace(self, active=dict(self.active), queue=list(self.queue))

    def running(self) -> list[Job]:
        """Return the active jobs that no other run replaces."""
        return [job for job in self.active.values() if not job.cancelled]

    def count(self, tick: Tick) -> None:
        """Count the outcome of nominal times. Events, triggers and backfilled times are not counted."""
        if tick.kind != "time":
            return
        if tick.outcome == "fired":
            self.fired += tick.times
        elif tick.outcome == "late":
            self.late += tick.times
        else:
            self.skipped += tick.times

    def packed(self) -> dict[str, Any]:
        """Return the state as plain values."""
        plain = {key: getattr(self, name) for name, key in _PLAIN.items()}
        plain["active"] = [job.packed() for job in self.active.values()]
        plain["queue"] = [job.packed() for job in self.queue]
        return plain

    @classmethod
    def unpacked(cls, plain: dict[str, Any]) -> State:
        """Create the state from the result of `packed`. Raises TypeError if a value is of the wrong type."""
        active, queue = ([_checked(Job(*values)) for values in plain[name]] for name in ("active", "queue"))
        state = _checked(cls(**{name: plain[key] for name, key in _PLAIN.items()}))
        state.active, state.queue = {job.run_id: job for job in active}, queue
        return state


# the stored key of each field; `status` is stored as "standing", as in version 0.1.0
_PLAIN = {field.name: field.name for field in fields(State) if field.name not in ("active", "queue", "key")}
_PLAIN["status"] = "standing"


def _checked(value: T) -> T:
    """Return a state or job, if each field has a value of its type: only such values can be decided, listed and shown.

    Raises:
        TypeError: a field has another value.
    """
    for name, kinds in _FIELDS[type(value).__name__]:
        found = getattr(value, name)
        if type(found) not in kinds:
            raise TypeError(f"its {name} is {found!r}")
    return value


T = TypeVar("T", State, Job)
_KINDS: dict[str, Any] = {
    "str": (str,), "int": (int,), "bool": (bool,), "int | None": (int, type(None)), "str | None": (str, type(None)),
}  # fmt: skip
_FIELDS = {
    kind.__name__: [(name, _KINDS[each]) for name, each in kind.__annotations__.items() if each in _KINDS]
    for kind in (State, Job)
}
"""The checked fields of each class, and the types of their values."""
