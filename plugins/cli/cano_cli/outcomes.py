"""Reporting the outcomes of the runs that `cano recover` resumes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from cano import Run, RunHandle, RunStatus, hookimpl, state_name

from cano_cli.errors import one_line
from cano_cli.hints import word
from cano_cli.records import counted, waits_for


class RunOutcome(NamedTuple):
    """The outcome of a run in this process: it ended, was parked or was interrupted.

    Attributes:
        run_id, workflow, status, state, steps: see `RunRecord`.
        note: its error, or what it waits for.
    """

    run_id: str
    workflow: str
    status: RunStatus
    state: str
    steps: int
    note: str

    @property
    def ok(self) -> bool:
        """Whether the run succeeded or is parked."""
        return self.status in (RunStatus.SUCCEEDED, RunStatus.PARKED)

    def __str__(self) -> str:
        where = {RunStatus.SUCCEEDED: f"in {self.state} ", RunStatus.PARKED: ""}  # it waits; its state is to come
        position = f"{where.get(self.status, f'in state {self.state} ')}after {counted(self.steps, 'step')}"
        text = f"run {word(self.run_id)} of {self.workflow} {self.status.value} {position}"
        return f"{text}: {self.note}" if self.note else text

    def as_json(self) -> dict[str, Any]:
        """Return the outcome as JSON."""
        return {**self._asdict(), "status": self.status.value, "note": self.note or None}


class OutcomeReporter:
    """An observer of one kernel's runs. It reports no sub-workflows: their parents handle them.

    Args:
        report: called with each outcome.
        workflows: names of the workflows whose runs are reported.

    Attributes:
        active: the ids of the runs that the kernel executes.
        ok: whether all outcomes so far are ok.
    """

    def __init__(self, report: Callable[[RunOutcome], None], workflows: Collection[str]) -> None:
        self.active: set[str] = set()
        self.ok = True
        self._report = report
        self._workflows = workflows
        self._outcomes: asyncio.Queue[RunOutcome] = asyncio.Queue()

    async def wait(self, *, forever: bool) -> None:
        """Report outcomes until no run is active, or without end if `forever` is set."""
        while forever or self.active or not self._outcomes.empty():
            self._handle(await self._outcomes.get())

    def report_remaining(self) -> None:
        """Report the outcomes that `wait` has not reported."""
        while not self._outcomes.empty():
            self._handle(self._outcomes.get_nowait())

    def _handle(self, outcome: RunOutcome) -> None:
        # not in the hooks: the kernel would swallow an exception of an observer, such as a broken pipe
        if outcome.workflow in self._workflows:  # otherwise it is a child that a parked parent waits for
            self.ok = self.ok and outcome.ok
            self._report(outcome)

    def expect(self, handle: RunHandle) -> None:
        """Count a run as active even if its start has not been observed yet."""
        if handle.status().status is RunStatus.RUNNING:
            self.active.add(handle.run_id)

    @hookimpl
    def cano_run_started(self, run: Run) -> None:
        """Count the run as active."""
        if run.parent is None:
            self.active.add(run.run_id)

    @hookimpl
    def cano_run_finished(self, run: Run) -> None:
        """Record that the run ended or was interrupted."""
        self._stopped(run, "" if run.error is None else one_line(run.error))

    @hookimpl
    def cano_run_parked(self, run: Run) -> None:
        """Record that the run was parked."""
        self._stopped(run, f"waits{waits_for(run.wait)}")

    def _stopped(self, run: Run, note: str) -> None:
        if run.parent is None:
            self.active.discard(run.run_id)
            state, steps = state_name(run.state), run.steps
            if run.status is RunStatus.PARKED and run.wait is not None:
                state, steps = run.wait.then, run.step.seq  # as in the store
            self._outcomes.put_nowait(RunOutcome(run.run_id, run.workflow, run.status, state, steps, note))
