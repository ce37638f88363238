"""Where the states of schedules are kept: in this process."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from cano import isolate

from cano_scheduler._decide import Decision
from cano_scheduler._schedule import Schedule
from cano_scheduler._standing import adopt, begin
from cano_scheduler._state import State
from cano_scheduler.tick import Tick

Change = Callable[[State], Decision | None]
"""Changes a state in place; None says that it has changed nothing."""

KEPT = 1000
"""How many ticks of each schedule are remembered where nothing is durable."""


class Ledger(Protocol):
    """The states of schedules.

    Attributes:
        shared: whether other processes change them too.
    """

    shared: bool

    async def attach(self, schedule: Schedule, now: int) -> None:
        """Find or make the state of a schedule."""
        ...

    def state(self, id: str) -> State | None:
        """The state as last seen here, for reading; None where there is none."""
        ...

    async def look(self, id: str) -> State | None:
        """The state as it is now, for reading."""
        ...

    async def update(self, id: str, change: Change) -> Decision | None:
        """Apply `change`, all of it or nothing; once it returns, what it decided is decided."""
        ...

    async def refresh(self) -> list[str]:
        """See what other processes have changed: the ids of those schedules."""
        ...

    async def history(self, id: str) -> list[Tick]:
        """What became of the schedule's times, oldest first."""
        ...

    def pack(self, data: Mapping[str, Any] | None) -> Any:
        """A run's data as an `Entry` has them. Raises SerializationError."""
        ...

    def unpack(self, packed: Any) -> dict[str, Any]:
        """The data that `pack` was given."""
        ...


class LocalLedger:
    """States of one process, as long as it lives.

    Attributes:
        states: the states; whoever changes one in place notes what was decided.
    """

    shared = False

    def __init__(self) -> None:
        self.states: dict[str, State] = {}
        self._ticks: dict[str, deque[Tick]] = {}

    async def attach(self, schedule: Schedule, now: int) -> None:
        """Find or make the state of a schedule."""
        state = self.states.get(schedule.id)
        if state is None:
            self.states[schedule.id] = begin(schedule, now)
            self._ticks[schedule.id] = deque(maxlen=KEPT)
        else:
            adopt(schedule, state, now)

    def state(self, id: str) -> State | None:
        """The state, for reading."""
        return self.states.get(id)

    async def look(self, id: str) -> State | None:
        """The state, for reading."""
        return self.states.get(id)

    async def update(self, id: str, change: Change) -> Decision | None:
        """Apply `change`."""
        decision = change(self.states[id])
        self.note(id, decision)
        return decision

    def note(self, id: str, decision: Decision | None) -> None:
        """Remember what was decided on a state that was changed in place."""
        if decision is not None and decision.ticks:
            self._ticks[id] += decision.ticks

    async def refresh(self) -> list[str]:
        """Nobody else changes them."""
        return []

    async def history(self, id: str) -> list[Tick]:
        """The last ticks, oldest first."""
        return list(self._ticks.get(id, ()))

    def pack(self, data: Mapping[str, Any] | None) -> Any:
        """The data themselves, copied."""
        return None if data is None else isolate(dict(data))

    def unpack(self, packed: Any) -> dict[str, Any]:
        """The data that `pack` was given."""
        return packed or {}
