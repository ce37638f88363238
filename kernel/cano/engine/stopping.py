"""How a run is ended: cancelled, interrupted or out of time; and what its end is then called."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from cano.durability.journal import Journal
from cano.engine.attempts import place
from cano.engine.binding import Plan
from cano.engine.deadline import TEARDOWN_GRACE
from cano.engine.strand import Strand
from cano.errors import (
    ConflictError,
    RunCancelledError,
    RunInterruptedError,
    RunTimeoutError,
    StoreUnavailableError,
)
from cano.protocols import Timer
from cano.records import RunStatus

if TYPE_CHECKING:
    from cano.kernel.kernel import Kernel


class Endable(Strand):
    """The part of a run that is about its end. See `Run`."""

    __slots__ = (
        "__weakref__", "_again", "_ended", "_lost", "_over", "_stop", "_stop_cancels", "bound", "due", "error",
        "journal", "parent", "run_id", "status", "timeout",
    )  # fmt: skip

    def __init__(self, kernel: Kernel, plan: Plan, run_id: str, store: Any, timeout: float | None) -> None:
        Strand.__init__(self, kernel, plan, store)
        self.run_id = run_id
        self.timeout = timeout
        self.due: float | None = None
        self.parent: Endable | None = None
        self.journal: Journal | None = None
        self.status = RunStatus.RUNNING
        self.error: BaseException | None = None
        self.bound = plan.start
        self._ended: asyncio.Future[None] | None = None
        self._over = False
        self._stop: RunStatus | None = None
        self._lost = False
        self._stop_cancels = 0
        self._again: Timer | None = None

    def arm(self) -> bool:
        """Watch the run's time from now on; False where it is over already."""
        if self.timeout is None:
            return True
        clock, left = self.kernel.clock, self.timeout
        if self.due is None:
            self.due = clock.time() + left
        else:
            left = min(left, self.due - clock.time())
        self.deadline = clock.monotonic() + left
        self.watchdog().arm(self.deadline)
        return left > 0

    def before_due(self, until: float | None) -> float | None:
        """The earlier of `until` and the end of the run's time, as wall-clock seconds; None is never."""
        return min((at for at in (until, self.due) if at is not None), default=None)

    def driven_by(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether it is `task` that drives the run."""
        return self._task is not None and self._task is task

    async def ended(self) -> None:
        """Wait until this is driven no longer, without a say in how."""
        if not self._over:
            if self._ended is None:
                self._ended = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._ended)

    def mark_over(self) -> None:
        """Let go who waits in `ended`."""
        self._over = True
        if self._ended is not None:
            self._ended.set_result(None)

    def lose(self) -> None:
        """Stop: the lease has gone to somebody else."""
        self._lost = True
        self.stop(RunStatus.INTERRUPTED)

    def stop(self, why: RunStatus) -> None:
        """Ask the run to end as CANCELLED or INTERRUPTED. Harmless once it has ended."""
        if self.status is not RunStatus.RUNNING:
            return
        self._stop = self._stop or why
        self.note_own_cancel()
        if self._task is not None:
            self._cancel_task()

    def _cancel_task(self) -> None:
        """Cancel it, and again where its clean-up hangs or swallows that."""
        assert self._task is not None
        self._stop_cancels += 1
        self._task.cancel()
        if self._again is not None:
            self._again.cancel()
        clock = self.kernel.clock
        self._again = clock.call_at(clock.monotonic() + TEARDOWN_GRACE, self._cancel_task)

    def leave(self) -> None:
        """Cancel the task no more."""
        Strand.leave(self)
        if self._again is not None:
            self._again.cancel()

    def own_cancels(self) -> int:
        """How often the run has cancelled its own task, `stop` included."""
        return self._stop_cancels + (0 if self.watch is None else self.watch.cancels)

    def stopping(self) -> bool:
        """Whether the run is to end before its next step, whatever its task does."""
        return self._stop is not None or self.cancelled_from_outside()

    def interrupted(self) -> bool:
        """Whether the run is to go on at another time: a child cancelled for that reason is not cancelled for good."""
        if self._stop is not None:
            return self._stop is RunStatus.INTERRUPTED
        if self.parent is not None:
            return self.parent.interrupted()
        return self.cancelled_from_outside()

    def _check_stopped(self) -> None:
        """End a run whose task has swallowed the cancellation."""
        if self._told_to_end():
            raise asyncio.CancelledError

    def _told_to_end(self) -> bool:
        return self._stop is not None or (self.watch is not None and self.watch.cancels > 0)

    def _why_cancelled(self, error: asyncio.CancelledError) -> BaseException:
        """The error that a cancellation stands for; where the task was at that time stays visible in its context."""
        where = place(self.step)
        reason: BaseException = error
        if self.cancelled_from_outside():
            if self.parent is not None and not self.parent.interrupted():
                reason = RunCancelledError(f"run {self.run_id} was cancelled with its parent", **where)
        elif self.watch is not None and self.watch.cancels:
            reason = self._timed_out()
        elif self._stop is RunStatus.CANCELLED:
            reason = RunCancelledError(f"run {self.run_id} was cancelled", **where)
        elif self._lost:
            reason = ConflictError(f"run {self.run_id} was taken over by another holder", run_id=self.run_id)
        elif self._stop is RunStatus.INTERRUPTED:
            reason = RunInterruptedError(f"run {self.run_id} was interrupted: the kernel closed", **where)
        if reason is not error:
            reason.__context__ = error
        return reason

    def _timed_out(self) -> RunTimeoutError:
        assert self.timeout is not None
        message = f"run {self.run_id} took longer than {self.timeout:g} s; it was in state {self.step.state}"
        return RunTimeoutError(message, timeout=self.timeout, **place(self.step))

    def _ended_with(self, error: BaseException) -> BaseException:
        """Note how the run ended, and the error to raise for it."""
        self.view.rollback()
        if isinstance(error, asyncio.CancelledError):
            error = self._why_cancelled(error)
        if not self.bound.is_exit:  # otherwise its last task swallowed the cancellation
            self.bound = self.step._bound
        lost = self.journal is not None and isinstance(error, ConflictError | StoreUnavailableError)
        cut = self.journal is not None and not isinstance(error, Exception)
        if lost or cut or isinstance(error, RunInterruptedError):
            self.status = RunStatus.INTERRUPTED
        elif isinstance(error, Exception) and not isinstance(error, RunCancelledError):
            self.status = RunStatus.FAILED
        else:
            self.status = RunStatus.CANCELLED
        return error

    def _succeeded_before(self, error: BaseException) -> bool:
        """Whether the exit state was in the store already when the run was told to end."""
        journal = self.journal
        if journal is None or not journal.over or not isinstance(error, asyncio.CancelledError):
            return False
        if self.cancelled_from_outside():
            return False
        self.bound = self.plan.by_name[journal.state]
        return True

    async def _take_back_stop(self) -> None:
        assert self._task is not None
        try:
            # a cancellation that no await of the task has met yet must not hit whoever awaits the run
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            if self.cancelled_from_outside():
                raise
        for _ in range(self._stop_cancels):
            self._task.uncancel()
