"""A handle on a started run."""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from typing import TYPE_CHECKING, Any, NamedTuple

from cano.engine.step import Progress
from cano.errors import RunCancelledError
from cano.model.result import RunResult
from cano.records import RunStatus

if TYPE_CHECKING:
    from cano.engine.binding import Plan
    from cano.engine.run import Run
    from cano.kernel.kernel import Kernel


class RunInfo(NamedTuple):
    """Where a run stands.

    Attributes:
        run_id, workflow: which run it is.
        status: running, parked, interrupted, succeeded, failed or cancelled.
        state: the state it is in.
        seq: number of the step it is in, or has ended with.
        attempt: which attempt of that step.
        progress: what the step last said of itself, or None.
        error: what the run failed with, or None.
    """

    run_id: str
    workflow: str
    status: RunStatus
    state: Any
    seq: int
    attempt: int
    progress: Progress | None
    error: BaseException | None


class RunHandle:
    """A started run. Dropping the handle, or cancelling who waits for it, does not stop the run."""

    def __init__(self, kernel: Kernel, plan: Plan, run: Run) -> None:
        self._kernel = kernel
        self._plan = plan
        self._run = run

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self._run.run_id

    async def result(self) -> RunResult:
        """Wait for the run's end, also when it is parked meanwhile.

        Raises:
            WorkflowError: the run failed, timed out, was cancelled or interrupted.
        """
        run = self._latest()
        await run.ended()
        if run.status is RunStatus.PARKED:
            assert self._kernel.durability is not None
            return await self._kernel.durability.settled(self._plan, run.run_id)
        if run.error is not None:
            raise run.error
        return run.result(run.bound.state)

    def cancel(self) -> Awaitable[None]:
        """Cancel the run. Await what this returns to be sure that it has ended.

        Harmless when it has ended already: then its outcome stays what it was.
        """
        run = self._latest()
        if run.status is RunStatus.PARKED:
            return self._kernel.spawn(self._cancel_parked(run))
        run.stop(RunStatus.CANCELLED)
        return _Ended(run)

    async def _cancel_parked(self, run: Run) -> None:
        await self._kernel.cancel(self.run_id)
        record = await self._kernel.store_of_runs.load(self.run_id)
        if record.status is RunStatus.CANCELLED and run is self._latest():
            run.status = RunStatus.CANCELLED
            run.error = RunCancelledError(f"run {run.run_id} was cancelled", run_id=run.run_id, workflow=run.workflow)

    def status(self) -> RunInfo:
        """Where the run stands now, as far as this kernel knows."""
        run = self._latest()
        step = run.step
        return RunInfo(
            run.run_id, run.workflow, run.status, run.state, step.seq, step.attempt, step.last_progress, run.error
        )

    def _latest(self) -> Run:
        """The run object that drives the run now: another one after it was parked."""
        while (successor := self._run.successor) is not None:
            self._run = successor
        return self._run

    def __repr__(self) -> str:
        return f"<RunHandle of {self._latest()!r}>"


class _Ended:
    """Awaitable that may as well not be awaited."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def __await__(self) -> Generator[Any, None, None]:
        return self._run.ended().__await__()
