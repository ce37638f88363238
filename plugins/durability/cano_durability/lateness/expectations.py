"""When a run, and its visit of a state, become late, as far as its record tells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from cano import LateRun, RunRecord, RunStatus, SerializationError, Wait
from cano.engine.ports import BoundWorkflow

from cano_durability.keys import CAPPED, LATE, VISIT
from cano_durability.values import Values


class Found(NamedTuple):
    """That a run, or a visit, was found to be late.

    Attributes:
        at: when, in wall-clock seconds.
        within: the expected duration in seconds.
    """

    at: float
    within: float


class Visit(NamedTuple):
    """A visit of a state: it begins with the transition to the state, and ends with the next transition.

    Attributes:
        seq: number of that transition.
        began: when it was made, in wall-clock seconds.
        late: that the visit was found to be late, or None.
    """

    seq: int
    began: float
    late: Found | None = None

    def packed(self) -> list[Any]:
        """Return the values that a record keeps."""
        return [self.seq, self.began, *(self.late or ())]


class Lateness(NamedTuple):
    """The known facts of a run about its expected durations.

    Attributes:
        run_id, workflow: its id, and the name of its workflow.
        created: when it was created, in wall-clock seconds.
        late: that it was found to be late, or None.
        state: name of the state that is next.
        visit: its visit of that state.
    """

    run_id: str
    workflow: str
    created: float
    late: Found | None
    state: str
    visit: Visit

    def pending(self, plan: BoundWorkflow, now: float, status: RunStatus = RunStatus.RUNNING) -> Iterator[LateRun]:
        """Yield what may be found to be late from now on: the run, the visit, both or neither."""
        within = None if plan.flow.expect is None else plan.flow.expect.seconds
        if within is not None and self.late is None:
            yield self._run(Found(now, within), status)
        if (within := plan.step_within.get(self.state)) is not None and self.visit.late is None:
            yield self._step(Found(now, within), status)

    def due(self, plan: BoundWorkflow) -> float | None:
        """Return the earliest time at which the run or the visit becomes late; None if neither does any more."""
        return min((each.due for each in self.pending(plan, 0)), default=None)

    def found(self, status: RunStatus) -> Iterator[LateRun]:
        """Yield what was found to be late: the run, the visit, both or neither."""
        if self.late is not None:
            yield self._run(self.late, status)
        if self.visit.late is not None:
            yield self._step(self.visit.late, status)

    def _run(self, found: Found, status: RunStatus) -> LateRun:
        seq, since = self.visit.seq, self.created
        return LateRun(self.run_id, self.workflow, self.state, seq, False, found.within, since, found.at, status)

    def _step(self, found: Found, status: RunStatus) -> LateRun:
        seq, since = self.visit.seq, self.visit.began
        return LateRun(self.run_id, self.workflow, self.state, seq, True, found.within, since, found.at, status)

    def noting(self, late: LateRun) -> Lateness:
        """Return this with a run, or a visit, that was found to be late."""
        found = Found(late.at, late.within)
        if not late.step:
            return self._replace(late=found)
        return self._replace(visit=self.visit._replace(late=found)) if late.seq == self.visit.seq else self

    def visiting(self, state: str, seq: int, now: float) -> Lateness:
        """Return this after a transition."""
        return self if seq == self.visit.seq else self._replace(state=state, visit=Visit(seq, now))

    def values(self, late: LateRun) -> dict[str, Any]:
        """Return the value of the engine's own that stores that the run, or the visit, is late."""
        return {VISIT: self.visit.packed()} if late.step else {LATE: [late.at, late.within]}

    def capped(self, plan: BoundWorkflow, wait: Wait) -> tuple[Wait, dict[str, Any]]:
        """Return a wait that ends when the run becomes late, at the latest; and the value that keeps the real end."""
        due = self.due(plan)
        if due is None or (wait.until is not None and wait.until <= due):
            return wait, {}
        return wait._replace(until=due), {CAPPED: [due, wait.until]}


def lateness_of(values: Values, record: RunRecord) -> Lateness:
    """Return the lateness of a stored run. A value that cannot be read counts as missing."""

    def read(name: str) -> Any:
        with suppress(SerializationError):
            return values.own(name, record.own, record.run_id)
        return None

    return known_lateness(
        record.run_id, record.workflow, record.created, record.state, record.seq,
        record.created if record.seq == 0 else record.updated, {name: read(name) for name in (LATE, VISIT)},
    )  # fmt: skip


def known_lateness(
    run_id: str, workflow: str, created: float, state: str, seq: int, began: float, values: Mapping[str, Any]
) -> Lateness:
    """Return the lateness of a run with these decoded `values`. The visit began at `began`, unless they say so."""
    late, visit = None, Visit(seq, began)
    with suppress(TypeError, ValueError):
        late = Found(*map(float, values.get(LATE) or ()))
    with suppress(LookupError, TypeError, ValueError):
        of, since, *found = values[VISIT]
        if of == seq:
            visit = Visit(seq, float(since), Found(*map(float, found)) if found else None)
    return Lateness(run_id, workflow, created, late, state, visit)


def uncapped(values: Values, record: RunRecord) -> RunRecord:
    """Return a record with the real wait, where that was shortened so that the run is found when it becomes late."""
    wait = record.wait
    if wait is not None and wait.until is not None and CAPPED in record.own:
        with suppress(SerializationError, TypeError, ValueError):
            until, real = values.own(CAPPED, record.own, record.run_id)
            if until == wait.until:
                return record._replace(wait=wait._replace(until=real))
    return record
