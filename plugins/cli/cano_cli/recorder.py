"""What a run's states have done, as lifecycle hooks tell it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from cano import Run, RunCancelledError, Step, hookimpl, state_name

from cano_cli.errors import one_line
from cano_cli.records import counted, waits_for
from cano_cli.times import show_seconds

HEADERS = ["state", "task", "status", "attempts", "time"]


class Activity(NamedTuple):
    """A step that is under way. `step` may be read until it ends."""

    began: float
    step: Step


class StateRow:
    """What one state has done so far, over all steps that were in it.

    Attributes:
        state: its name; marked where it is of a sub-workflow, or of the branches of a split.
        task: its task's name.
        status: "running", "retrying", "done", "failed" or "cancelled".
        visits: how many steps were in it.
    """

    def __init__(self, state: str, task: str) -> None:
        self.state = state
        self.task = task
        self.visits = 0
        self.active: dict[tuple[str, str | None], Activity] = {}
        self._status = ""
        self._attempts = 0
        self._seconds = 0.0

    def begin(self, step: Step, now: float) -> None:
        """A step in this state begins."""
        self.visits += 1
        self.active[step.run_id, step.branch] = Activity(now, step)

    def end(self, step: Step, now: float, status: str) -> None:
        """It has ended."""
        activity = self.active.pop((step.run_id, step.branch))
        self._seconds += now - activity.began
        self._attempts += step.attempt
        self._status = status

    @property
    def status(self) -> str:
        """See the attributes of the class."""
        activities = list(self.active.values())
        if not activities:
            return self._status
        return "retrying" if any(activity.step.delay is not None for activity in activities) else "running"

    @property
    def attempts(self) -> int:
        """How many attempts its steps have taken."""
        return self._attempts + sum(activity.step.attempt for activity in list(self.active.values()))

    def seconds(self, now: float) -> float:
        """How long its steps have taken, retries and waits included."""
        return self._seconds + sum(now - activity.began for activity in list(self.active.values()))

    @property
    def note(self) -> str:
        """What its running step says: how far it is, or why it is tried again."""
        for _, step in list(self.active.values()):
            error, delay, progress = step.error, step.delay, step.last_progress
            if error is not None and delay is not None:
                return f"again in {delay:.3g} s after {one_line(error)}"
            if progress is not None:
                total = "" if progress.total is None else f"/{progress.total:g}"
                return f"{progress.done:g}{total} {progress.message or ''}".strip()
        return ""


class Recorder:
    """An observer that keeps what a run's states have done: memory by state, not by step.

    Args:
        now: seconds that only grow.
        tell: told of what people may wonder about: that the run waits for something, or does not begin at its start.

    Attributes:
        run: the run that was asked for, once it has begun.
        rows: a row for each state, in the order in which the run came to them.
        advice: what is told to people whose run waits.
    """

    def __init__(
        self, now: Callable[[], float] = time.monotonic, tell: Callable[[str], None] = lambda message: None
    ) -> None:
        self.now = now
        self.tell = tell
        self.run: Run | None = None
        self.rows: dict[tuple[str, str, str | None], StateRow] = {}
        self.advice = "Ctrl-C cancels it"
        self._began = 0.0
        self._ended: float | None = None

    @property
    def seconds(self) -> float:
        """How long the run has taken so far."""
        if self.run is None:
            return 0.0
        return (self.now() if self._ended is None else self._ended) - self._began

    @hookimpl
    def cano_run_started(self, run: Run) -> None:
        """Remember the run: the first one is the one that was asked for. It may go on as another object."""
        if self.run is None:
            self.run, self._began = run, self.now()
        elif self.run.run_id == run.run_id:
            self.run = run
        if run is self.run and run.resumed:
            step = counted(run.step.seq, "step")
            self.tell(f"Resumed: run {run.run_id} goes on in state {state_name(run.state)} after {step}")

    @hookimpl
    def cano_run_finished(self, run: Run) -> None:
        """Stop the clock."""
        if run is self.run:
            self._ended = self.now()

    @hookimpl
    def cano_run_parked(self, run: Run) -> None:
        """Tell what the run waits for."""
        self.tell(f"Parked: run {run.run_id} waits{waits_for(run.wait)}; {self.advice}")

    @hookimpl
    def cano_step_started(self, step: Step) -> None:
        """Count the step."""
        self._row(step).begin(step, self.now())

    @hookimpl
    def cano_step_finished(self, step: Step) -> None:
        """Note its time and attempts."""
        self._row(step).end(step, self.now(), "done")

    @hookimpl
    def cano_step_failed(self, step: Step) -> None:
        """Note its time and attempts."""
        cancelled = isinstance(step.error, asyncio.CancelledError | RunCancelledError)
        self._row(step).end(step, self.now(), "cancelled" if cancelled else "failed")

    def _row(self, step: Step) -> StateRow:
        # the branches of a split may be thousands: those with one task share a row
        key = (step.workflow, state_name(step.state), None if step.branch is None else step.task)
        row = self.rows.get(key)
        if row is None:
            label = key[1] if step.branch is None else f"{key[1]} (branch)"
            if self.run is not None and step.workflow != self.run.workflow:
                label = f"{step.workflow}/{label}"
            row = self.rows[key] = StateRow(label, step.task)
        return row

    def table(self) -> list[list[str]]:
        """Every state as cells: state, task, status, attempts, time."""
        now = self.now()
        return [
            [row.state, row.task, row.status, _attempts(row), show_seconds(row.seconds(now))]
            for row in list(self.rows.values())
        ]

    def as_json(self) -> list[dict[str, Any]]:
        """Every state as JSON."""
        now = self.now()
        return [
            {
                "state": row.state,
                "task": row.task,
                "status": row.status,
                "visits": row.visits,
                "attempts": row.attempts,
                "seconds": round(row.seconds(now), 6),
            }
            for row in self.rows.values()
        ]


def _attempts(row: StateRow) -> str:
    return str(row.attempts) if row.visits < 2 else f"{row.attempts} in {row.visits} steps"
