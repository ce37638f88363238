"""A handle on a started run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, NamedTuple

from cano.protocols import RunStatus
from cano.step import Progress

if TYPE_CHECKING:
    from cano.result import RunResult
    from cano.run import Run


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

    def __init__(self, run: Run, task: asyncio.Task[None]) -> None:
        self._run = run
        self._task = task

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self._run.run_id

    async def result(self) -> RunResult:
        """Wait for the run's end.

        Raises:
            WorkflowError: the run failed, timed out, was cancelled or interrupted.
        """
        await asyncio.shield(self._task)
        if self._run.error is not None:
            raise self._run.error
        return self._run.result(self._run.bound.state)

    def cancel(self) -> Awaitable[None]:
        """Cancel the run. Await what this returns to be sure that it has ended.

        Harmless when it has ended already: then its outcome stays what it was.
        """
        self._run.stop(RunStatus.CANCELLED)
        return _Ended(self._task)

    def status(self) -> RunInfo:
        """Where the run stands now."""
        run = self._run
        step = run.step
        return RunInfo(
            run.run_id, run.workflow, run.status, run.state, step.seq, step.attempt, step.last_progress, run.error
        )

    def __repr__(self) -> str:
        return f"<RunHandle of {self._run!r}>"


class _Ended:
    """Awaitable that may as well not be awaited."""

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task

    def __await__(self) -> Any:
        return asyncio.shield(self._task).__await__()
