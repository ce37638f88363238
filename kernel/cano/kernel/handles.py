"""`RunHandle`, for a run that was started, and `RunListing`, for stored runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Generator
from typing import TYPE_CHECKING, Any, NamedTuple

from cano.engine.step import Progress
from cano.model.result import RunResult
from cano.records import RunFilter, RunRecord, RunStatus

if TYPE_CHECKING:
    from cano.engine.binding import BoundWorkflow
    from cano.engine.run import Run
    from cano.kernel.kernel import Kernel


class RunInfo(NamedTuple):
    """The progress of a run.

    Attributes:
        run_id, workflow: the run's id, and its workflow's name.
        status: running, parked, interrupted, succeeded, failed or cancelled.
        state: the state that it is in.
        seq: number of the current step, or of the last one.
        attempt: the current attempt of that step, counted from 1.
        progress: the step's last report of its progress, or None.
        error: the exception that the run failed with, or None.
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
    """A handle to a started run. Dropping it, or cancelling its waiters, does not stop the run."""

    def __init__(self, kernel: Kernel, plan: BoundWorkflow, run: Run) -> None:
        self._kernel = kernel
        self._plan = plan
        self._run = run

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self._run.run_id

    async def result(self) -> RunResult:
        """Wait for the run's end and return its result, even if the run is parked in between.

        Raises:
            WorkflowError: the run failed, timed out, was cancelled or interrupted.
        """
        run = self._latest()
        await run.ended()
        if run.status is RunStatus.PARKED:
            return await self._kernel.required_keeper().settled(self._plan, run.run_id)
        if run.error is not None:
            raise run.error
        return run.result(run.bound.state)

    def cancel(self) -> Awaitable[None]:
        """Cancel the run. Await the result to be sure that the run has ended.

        A run that has already ended keeps its outcome.
        """
        run = self._latest()
        if run.status is RunStatus.PARKED:
            return self._kernel.spawn(self._kernel.required_keeper().cancel_parked(run))
        run.stop(RunStatus.CANCELLED)
        return _Ended(run)

    def status(self) -> RunInfo:
        """Return the run's progress, as far as this kernel knows it."""
        run = self._latest()
        step = run.step
        return RunInfo(
            run.run_id, run.workflow, run.status, run.state, step.seq, step.attempt, step.last_progress, run.error
        )

    def _latest(self) -> Run:
        """Return the object that executes the run now; it changes when a parked run is resumed."""
        while (successor := self._run.successor) is not None:
            self._run = successor
        return self._run

    def __repr__(self) -> str:
        return f"<RunHandle of {self._latest()!r}>"


class _Ended:
    """An awaitable for the end of a run, which need not be awaited."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def __await__(self) -> Generator[Any, None, None]:
        return self._run.ended().__await__()


class RunListing:
    """The runs of a store, newest first: `await` it for a list, or iterate over it with `async for`."""

    def __init__(self, kernel: Kernel, filter: RunFilter) -> None:
        self._kernel = kernel
        self._filter = filter

    async def _records(self) -> list[RunRecord]:
        return await (await self._kernel.opened_keeper()).runs(self._filter)

    def __await__(self) -> Generator[Any, None, list[RunRecord]]:
        return self._records().__await__()

    async def __aiter__(self) -> AsyncIterator[RunRecord]:
        for record in await self._records():
            yield record
