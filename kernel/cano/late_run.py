"""`LateRun`: that a run, or a step, takes longer than expected."""

from __future__ import annotations

from typing import NamedTuple

from cano.records import RunStatus


class LateRun(NamedTuple):
    """A run, or its visit of a state, that takes longer than `Workflow(expect=…)` says. See `cano.Expect`.

    Attributes:
        run_id, workflow: the run, and the name of its workflow.
        state: name of the state that is next.
        seq: number of transitions committed.
        step: whether the visit of `state` is late; otherwise the whole run is.
        within: the expected duration in seconds.
        since: when the run was created, or the visit began, in wall-clock seconds.
        at: when it was found to be late, in wall-clock seconds.
        status: the run's status then: running, parked, interrupted or queued.
    """

    run_id: str
    workflow: str
    state: str
    seq: int
    step: bool
    within: float
    since: float
    at: float
    status: RunStatus = RunStatus.RUNNING

    @property
    def due(self) -> float:
        """When it became late, in wall-clock seconds."""
        return self.since + self.within

    def __str__(self) -> str:
        what = f"its visit of state {self.state}" if self.step else "the run"
        return f"{what} takes longer than the expected {self.within:g} s"
