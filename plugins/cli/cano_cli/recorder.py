"""Recording the activity of a run's states through lifecycle hooks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from cano import Run, RunCancelledError, Step, hookimpl, state_name

from cano_cli.bars import bar
from cano_cli.errors import one_line
from cano_cli.hints import word
from cano_cli.records import counted, waits_for
from cano_cli.times import show_seconds

HEADERS = ["state", "task", "status", "attempts", "time"]


class Activity(NamedTuple):
    """A running step. `step` may be read until it ends."""

    began: float
    step: Step


class StateRow:
    """The activity of one state over all its steps.

    Attributes:
        state: its name; a sub-workflow's name is put before it, and " (branch)" follows it for branches of a split.
        task: the name of its task.
        status: "running", "retrying", "done", "failed" or "cancelled".
        visits: the number of its steps.
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
        """Record that a step begins."""
        self.visits += 1
        self.active[step.run_id, step.branch] = Activity(now, step)

    def end(self, step: Step, now: float, status: str) -> None:
        """Record that a step has ended."""
        activity = self.active.pop((step.run_id, step.branch))
        self._seconds += now - activity.began
        self._attempts += step.attempt
        self._status = status

    @property
    def status(self) -> str:
        """The status of the running steps, or else of the step that ended last."""
        activities = list(self.active.values())
        if not activities:
            return self._status
        return "retrying" if any(activity.step.delay is not None for activity in activities) else "running"

    @property
    def attempts(self) -> int:
        """The number of attempts over all steps."""
        return self._attempts + sum(activity.step.attempt for activity in list(self.active.values()))

    def seconds(self, now: float) -> float:
        """Return the seconds that all steps took, including the delays of retries."""
        return self._seconds + sum(now - activity.began for activity in list(self.active.values()))

    @property
    def note(self) -> str:
        """The progress of a running step, or the error that it will retry; empty if there is neither."""
        for _, step in list(self.active.values()):
            error, delay, progress = step.error, step.delay, step.last_progress
            if error is not None and delay is not None:
                return f"retry in {delay:.3g} s after {one_line(error)}"
            if progress is not None:
                return bar(progress)
        return ""


class Recorder:
    """An observer that records the activity of a run's states. Its memory grows with the states, not the steps.

    Args:
        now: a monotonic clock, in seconds.
        report: called with a message if the run is resumed or parked.

    Attributes:
        run: the run of this command, once it has begun.
        rows: a row for each state, in the order of their first steps.
        ctrl_c_effect: what Ctrl-C does to a parked run, for the message.
    """

    def __init__(
        self, now: Callable[[], float] = time.monotonic, report: Callable[[str], None] = lambda message: None
    ) -> None:
        self.now = now
        self.report = report
        self.run: Run | None = None
        self.rows: dict[tuple[str, str, str | None], StateRow] = {}
        self.ctrl_c_effect = "Ctrl-C cancels it"
        self._began = 0.0
        self._ended: float | None = None

    @property
    def seconds(self) -> float:
        """The seconds that the run has taken so far."""
        if self.run is None:
            return 0.0
        return (self.now() if self._ended is None else self._ended) - self._began

    @hookimpl
    def cano_run_started(self, run: Run) -> None:
        """Record the run. The first one is the command's own; when it is resumed, it is a new object."""
        if self.run is None:
            self.run, self._began = run, self.now()
        elif self.run.run_id == run.run_id:
            self.run = run
        if run is self.run and run.resumed:
            step = counted(run.step.seq, "step")
            self.report(f"Resumed: run {word(run.run_id)} continues in state {state_name(run.state)} after {step}")

    @hookimpl
    def cano_run_finished(self, run: Run) -> None:
        """Record the time of the run's end."""
        if run is self.run:
            self._ended = self.now()

    @hookimpl
    def cano_run_parked(self, run: Run) -> None:
        """Report what the run waits for."""
        self.report(f"Parked: run {word(run.run_id)} waits{waits_for(run.wait)}; {self.ctrl_c_effect}")

    @hookimpl
    def cano_step_started(self, step: Step) -> None:
        """Record that the step begins."""
        self._row(step).begin(step, self.now())

    @hookimpl
    def cano_step_finished(self, step: Step) -> None:
        """Record the step's time and attempts."""
        self._row(step).end(step, self.now(), "done")

    @hookimpl
    def cano_step_failed(self, step: Step) -> None:
        """Record the step's time, attempts and failure."""
        cancelled = isinstance(step.error, asyncio.CancelledError | RunCancelledError)
        self._row(step).end(step, self.now(), "cancelled" if cancelled else "failed")

    def _row(self, step: Step) -> StateRow:
        # a split may have thousands of branches, so branches with the same task share a row
        key = (step.workflow, state_name(step.state), None if step.branch is None else step.task)
        row = self.rows.get(key)
        if row is None:
            label = key[1] if step.branch is None else f"{key[1]} (branch)"
            if self.run is not None and step.workflow != self.run.workflow:
                label = f"{step.workflow}/{label}"
            row = self.rows[key] = StateRow(label, step.task)
        return row

    def table(self) -> list[list[str]]:
        """Return a row of cells for each state: state, task, status, attempts, time."""
        now = self.now()
        return [
            [row.state, row.task, row.status, _attempts(row), show_seconds(row.seconds(now))]
            for row in list(self.rows.values())
        ]

    def as_json(self) -> list[dict[str, Any]]:
        """Return every state as JSON."""
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
    return str(row.attempts) if row.visits < 2 else f"{row.visits} visits, {row.attempts} attempts"
