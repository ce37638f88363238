"""Stops a run from outside its task, and determines the error and status that it ends with."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from cano.engine.step import location_of, running
from cano.errors import (
    CanoError,
    ConfigurationError,
    ConflictError,
    RunCancelledError,
    RunInterruptedError,
    RunTimeoutError,
    StoreUnavailableError,
    TransientStoreError,
)
from cano.protocols import Clock, Timer
from cano.records import RunStatus
from cano.runtime.deadline import TEARDOWN_GRACE

if TYPE_CHECKING:
    from cano.engine.run import Run


class Stop:
    """A request to end a run, made through Cano. It cancels the run's task, and repeats that until the task ends.

    Attributes:
        status: CANCELLED or INTERRUPTED, the status to end with.
        on_request: whether the run itself was cancelled, rather than with its parent.
        lost: how the run lost its lease; empty if it did not.
        cancels: how often it has cancelled the task.
    """

    __slots__ = ("_timer", "cancels", "lost", "on_request", "status")

    def __init__(self, status: RunStatus) -> None:
        self.status = status
        self.on_request = False
        self.lost = ""
        self.cancels = 0
        self._timer: Timer | None = None

    def cancel(self, task: asyncio.Task[object], clock: Clock) -> None:
        """Cancel the task now, and again every `TEARDOWN_GRACE` seconds until `close`."""
        self.cancels += 1
        task.cancel()
        self.close()
        self._timer = clock.call_at(clock.monotonic() + TEARDOWN_GRACE, lambda: self.cancel(task, clock))

    def close(self) -> None:
        """Stop the timer: do not cancel the task again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def take_back(self, task: asyncio.Task[object], strand: Run) -> None:
        """Undo the cancellations that no `await` has raised yet, so that they do not reach later work of the task."""
        if self.cancels:
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                if strand.cancelled_from_outside():
                    raise
            for _ in range(self.cancels):
                task.uncancel()


def refuse_inside(runs: Iterable[Run], what: str) -> None:
    """Refuse a call that waits for `runs`, if the task of one of them makes it: it would wait for itself.

    An asyncio task that this task has started may make it, but not one that a branch of a split has started.

    Args:
        runs: the runs.
        what: what the task cannot do, for the message: a verb and its object.

    Raises:
        ConfigurationError: a task of these runs makes the call.
    """
    here, caller, step = asyncio.get_running_loop(), asyncio.current_task(), running.get(None)
    for run in runs:
        inside = step is not None and step.run is run and (step.branch is not None or run.loop is not here)
        if inside or run.driven_by(caller):
            message = f"the task of state {run.step.state} cannot {what}, which waits for its run {run.run_id} to end; "
            message += "set an asyncio.Event in the task, and make this call where that is awaited, outside the run"
            raise ConfigurationError(message, run_id=run.run_id, state=run.step.state)


def reason_of(run: Run, error: asyncio.CancelledError) -> BaseException:
    """Return the error that a cancellation stands for. Its context shows where the task was at that time."""
    where, stop = location_of(run.step), run._stop
    with_parent = stop is None or not stop.on_request
    reason: BaseException = error
    if run.cancelled_from_outside():
        if run.parent is not None and not run.parent.interrupted():
            message = f"run {run.run_id} was cancelled with its parent"
            reason = RunCancelledError(message, with_parent=with_parent, **where)
    elif run.watch is not None and run.watch.cancels:
        reason = timed_out(run)
    elif stop is None:  # nothing asked for it, and no task raised it: a commit may or may not have been applied
        reason = StoreUnavailableError(f"run {run.run_id} ends: a call of its store raised CancelledError")
    elif stop.status is RunStatus.CANCELLED:
        reason = RunCancelledError(f"run {run.run_id} was cancelled", with_parent=with_parent, **where)
    elif stop.lost:
        reason = lease_lost(run.run_id, stop.lost)
    else:
        reason = RunInterruptedError(f"run {run.run_id} was interrupted: the kernel closed", **where)
    if reason is not error:
        reason.__context__ = error
    return reason


def lease_lost(run_id: str, reason: str) -> ConflictError:
    """Return the error of a run that this process stopped because it lost the run's lease."""
    remedy = f"to continue it or wait for its result, call kernel.run(flow, run_id={run_id!r})"
    return ConflictError(f"run {run_id} lost its lease: {reason}; {remedy}", run_id=run_id)


def timed_out(run: Run) -> RunTimeoutError:
    """Return the error of a run that has exceeded its timeout."""
    assert run.timeout is not None
    message = f"run {run.run_id} took longer than {run.timeout:g} s; it was in state {run.step.state}"
    return RunTimeoutError(message, timeout=run.timeout, **location_of(run.step))


def status_of(error: BaseException, *, stored: bool) -> RunStatus:
    """Return the status of a run that ends with `error`. A `stored` run can be resumed, so it may be INTERRUPTED."""
    cut = isinstance(error, asyncio.CancelledError | KeyboardInterrupt | SystemExit | GeneratorExit)
    # what a task raises is a `CanoError` by now, or not an `Exception`: any other one is the store's
    lost = isinstance(error, TransientStoreError) or (isinstance(error, Exception) and not isinstance(error, CanoError))
    if isinstance(error, RunInterruptedError) or (stored and (cut or lost)):
        return RunStatus.INTERRUPTED
    return RunStatus.CANCELLED if cut or isinstance(error, RunCancelledError) else RunStatus.FAILED
