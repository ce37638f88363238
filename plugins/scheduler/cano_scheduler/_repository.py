"""`Repository`, which keeps the states of schedules, and its implementation in the memory of this process."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from cano import isolate

from cano_scheduler._decide import Decision
from cano_scheduler._lifecycle import adopt, begin
from cano_scheduler._schedule import Schedule
from cano_scheduler._state import State
from cano_scheduler.tick import Tick

Change = Callable[[State], Decision | None]
"""Changes a state in place. Returns None if it changed nothing."""

MAX_TICKS = 1000
"""How many ticks of each schedule are kept without a durable store."""


class Repository(Protocol):
    """A repository of the states and histories of schedules.

    Attributes:
        shared: whether other processes change them, too.
    """

    shared: bool

    async def prepare(self) -> None:
        """Called before many schedules are attached."""
        ...

    async def attach(self, schedule: Schedule, now: int) -> None:
        """Load or create the state of a schedule."""
        ...

    def key(self, id: str) -> str:
        """Return how the ids of a schedule's runs begin."""
        ...

    def state(self, id: str) -> State | None:
        """Return the state as this process last read or wrote it, for reading; None if there is none."""
        ...

    async def resolve(self, schedule: Schedule) -> None:
        """Find out the key of a schedule that this process may only look at."""
        ...

    def busy(self) -> list[str]:
        """Return the ids of the schedules with active or queued runs, as this process knows them."""
        ...

    async def load(self, id: str) -> State | None:
        """Return the present state, for reading; None if there is none."""
        ...

    async def update(self, id: str, change: Change, action: str | None = None) -> Decision | None:
        """Apply `change` completely or not at all, and return its decision once the new state is stored.

        `action` is a caller's, for the store's audit: "pause", for example.
        """
        ...

    async def refresh(self) -> list[str]:
        """Reload the states that other processes have changed, and return the ids of their schedules."""
        ...

    async def history(self, id: str) -> list[Tick]:
        """Return the ticks of a schedule, oldest first."""
        ...

    def pack(self, data: Mapping[str, Any] | None, schedule: Schedule) -> Any:
        """Convert the data of a schedule's run for `Job.data`. Raises SerializationError."""
        ...

    def unpack(self, packed: Any, schedule: Schedule) -> dict[str, Any]:
        """Return the data from the result of `pack`."""
        ...


class LocalRepository:
    """A repository in the memory of this process.

    Attributes:
        states: the states. A caller that changes one in place passes the decision to `record`.
    """

    shared = False

    def __init__(self) -> None:
        self.states: dict[str, State] = {}
        self._ticks: dict[str, deque[Tick]] = {}

    async def prepare(self) -> None:
        """Do nothing."""

    async def attach(self, schedule: Schedule, now: int) -> None:
        """Load or create the state of a schedule."""
        state = self.states.get(schedule.id)
        if state is None:
            self.states[schedule.id] = begin(schedule, now)
            self._ticks[schedule.id] = deque(maxlen=MAX_TICKS)
        else:
            adopt(schedule, state, now)

    def key(self, id: str) -> str:
        """Return the id."""
        return id

    def state(self, id: str) -> State | None:
        """Return the state, for reading."""
        return self.states.get(id)

    async def resolve(self, schedule: Schedule) -> None:
        """Do nothing: each schedule's key is its id."""

    def busy(self) -> list[str]:
        """Return the ids of the schedules with active or queued runs."""
        return [id for id, state in self.states.items() if state.active or state.queue]

    async def load(self, id: str) -> State | None:
        """Return the state, for reading."""
        return self.states.get(id)

    async def update(self, id: str, change: Change, action: str | None = None) -> Decision | None:
        """Apply `change` and record its ticks."""
        decision = change(self.states[id])
        self.record(id, decision)
        return decision

    def record(self, id: str, decision: Decision | None) -> None:
        """Add the ticks of a decision to the history."""
        if decision is not None and decision.ticks:
            self._ticks[id] += decision.ticks

    async def refresh(self) -> list[str]:
        """Return no ids: other processes cannot change these states."""
        return []

    async def history(self, id: str) -> list[Tick]:
        """Return the last `MAX_TICKS` ticks, oldest first."""
        return list(self._ticks.get(id, ()))

    def pack(self, data: Mapping[str, Any] | None, schedule: Schedule) -> Any:
        """Return a copy of the data."""
        return None if data is None else isolate(dict(data))

    def unpack(self, packed: Any, schedule: Schedule) -> dict[str, Any]:
        """Return the data from the result of `pack`."""
        return packed or {}
