"""Watching the runs of a worker: counts them, and lets each leave after its next commit once the worker drains."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress

from cano import Kernel, Run, RunStatus, Step, StoreError, hookimpl, state_name

from cano_cli.records import counted
from cano_cli.worker_health import counter, gauge

ENDS = RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.PARKED, RunStatus.INTERRUPTED
"""How a run can end in a worker."""
PATIENCE = 0.5
"""Seconds that metrics wait for the store: less than a probe of Kubernetes waits for metrics."""


class WorkerRuns:
    """An observer of the runs of one worker. Children count as parts of their parents.

    Attributes:
        executing: the ids of the runs that it executes.
        begun: how many runs it has begun, or continued.
        ended: how many ended, were parked or interrupted, by status.
        draining: whether it is to take no more runs.
        cut_off: how many runs were interrupted in the middle of a step.
    """

    def __init__(self) -> None:
        self.executing: set[str] = set()
        self.begun = 0
        self.ended = Counter({status.value: 0 for status in ENDS})
        self.draining = False
        self.cut_off = 0
        self._leaving: set[str] = set()

    @hookimpl
    def cano_run_started(self, run: Run) -> None:
        """Count the run."""
        if run.parent is None:
            self.executing.add(run.run_id)
            self.begun += 1

    @hookimpl
    def cano_run_finished(self, run: Run) -> None:
        """Count the end of the run, or its interruption."""
        if run.parent is None:
            self._stopped(run)
            self.cut_off += run.status is RunStatus.INTERRUPTED and run.run_id not in self._leaving

    @hookimpl
    def cano_run_parked(self, run: Run) -> None:
        """Count that the run is parked."""
        if run.parent is None:
            self._stopped(run)

    def _stopped(self, run: Run) -> None:
        self.executing.discard(run.run_id)
        self.ended[run.status.value] += 1

    @hookimpl
    def cano_transition_committed(self, step: Step) -> None:
        """Let the run leave if the worker drains: its next step does not begin here."""
        if self.draining:
            self._leave(step.run)

    def _leave(self, run: Run) -> None:
        """Interrupt a run between two steps, with its parents if no other child of theirs is in a step."""
        if run.plan.by_name[state_name(run.step.next_state)].is_exit:
            return  # it ends now; a parent's step, if there is one, reaches its own commit
        root, above = run, {run.run_id}
        while root.parent is not None:
            root = root.parent
            above.add(root.run_id)
        if not any(_root_of(other) is root and other.run_id not in above for other in run.kernel.active.values()):
            self._leaving.add(root.run_id)
            root.stop(RunStatus.INTERRUPTED)
            run.note_cancel()  # so that the next step does not begin

    async def drain(self, kernel: Kernel, grace: float) -> None:
        """Close the kernel: claim no more, and let each run leave after its next commit, or cut it off after `grace`.

        Args:
            kernel: the kernel that executes the runs.
            grace: seconds.
        """
        self.draining = True
        for run in list(kernel.active.values()):
            if run.waits_for is not None and run.parent is None:  # no step of it is under way
                self._leaving.add(run.run_id)
                run.stop(RunStatus.INTERRUPTED)
        await kernel.close(grace)

    async def metrics(self, kernel: Kernel, concurrency: int) -> str:
        """Return the counts in the text format of Prometheus. Without an answer of the store, no queue has a size."""
        keeper, sizes = kernel.required_keeper(), dict[str, int]()
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(PATIENCE):
                sizes.update(await keeper.queue_sizes())
        claims = keeper.claims()
        return "".join(
            (
                gauge("cano_worker_runs_executing", "Runs that this worker executes now.", len(self.executing)),
                gauge("cano_worker_concurrency", "The most runs that it executes at once.", concurrency),
                gauge("cano_worker_draining", "1 if it takes no more runs.", int(self.draining)),
                gauge("cano_worker_queue_runs", "Runs that wait in a queue, up to 10,000.", sizes, "queue"),
                counter("cano_worker_runs_begun_total", "Runs begun or continued.", self.begun),
                counter("cano_worker_runs_ended_total", "Runs that left it, by status.", self.ended, "status"),
                counter("cano_worker_claims_total", "Calls of the store to claim runs.", claims["calls"]),
                counter("cano_worker_runs_claimed_total", "Runs claimed.", claims["runs"]),
                counter("cano_worker_runs_refused_total", "Runs that cannot continue here.", claims["refused"]),
            )
        )

    def __str__(self) -> str:
        ends = [f"{number} {status}" for status, number in self.ended.items() if number]
        cut = f"; {counted(self.cut_off, 'step')} cut off" if self.cut_off else ""
        return f"{counted(self.begun, 'run')} begun" + "".join(f", {each}" for each in ends) + cut


def _root_of(run: Run) -> Run:
    while run.parent is not None:
        run = run.parent
    return run
