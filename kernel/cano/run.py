"""A run: one pass of a workflow, and the step loop that drives it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cano.attempts import attempt_until_done, place
from cano.binding import BoundState, Plan, Refused
from cano.deadline import TEARDOWN_GRACE
from cano.errors import (
    ConfigurationError,
    ConflictError,
    JoinError,
    RunCancelledError,
    RunInterruptedError,
    RunTimeoutError,
    StepTimeoutError,
    StoreUnavailableError,
    TaskError,
)
from cano.journal import ERROR, PARK_AFTER, Journal, describe
from cano.limits import places
from cano.protocols import RunStatus, Timer, Wait
from cano.result import RunResult
from cano.step import Step, running
from cano.strand import Strand
from cano.waiting import Parked, Paused

if TYPE_CHECKING:
    from cano.kernel import Kernel

BREATH = 1024
"""Steps after which a run that never waits lets the event loop turn, so that others run and timers fire."""

NOTHING_KEPT: Mapping[str, Any] = {}


class Run(Strand):
    """One pass of a workflow. Read it; the engine alone writes it.

    Attributes:
        run_id: its id.
        plan: the bound workflow; `workflow` and `version` are its name and version.
        status: where it stands.
        error: what it failed with, or None.
        parent_id: id of the run that started it as a sub-workflow, or None.
        resumed: whether it goes on from an earlier time.
        store: what the tasks get.
        wait: what it waits for, while it is parked.
        journal: its line in the store, or None.
        kept: values of the engine's own that a resumed run was found with.
        successor: the object that drives it now, after this one was parked.
    """

    __slots__ = (
        "__weakref__", "_again", "_ended", "_lost", "_over", "_stop", "_stop_cancels", "bound", "error", "journal",
        "kept", "parent", "parent_id", "resumed", "run_id", "status", "successor", "timeout", "wait",
    )  # fmt: skip

    def __init__(
        self,
        kernel: Kernel,
        plan: Plan,
        run_id: str,
        store: Any,
        *,
        timeout: float | None = None,
        parent_id: str | None = None,
    ) -> None:
        Strand.__init__(self, kernel, plan, store)
        self.run_id = run_id
        self.timeout = timeout
        self.parent_id = parent_id
        self.parent: Run | None = None
        self.resumed = False
        self.journal: Journal | None = None
        self.kept: Mapping[str, Any] = NOTHING_KEPT
        self.wait: Wait | None = None
        self.successor: Run | None = None
        self.status = RunStatus.RUNNING
        self.error: BaseException | None = None
        self.bound = plan.start
        self.step = Step(self, plan.start)
        self._ended: asyncio.Future[None] | None = None
        self._over = False
        self._stop: RunStatus | None = None
        self._lost = False
        self._stop_cancels = 0
        self._again: Timer | None = None

    @property
    def workflow(self) -> str:
        """The workflow's name."""
        return self.plan.name

    @property
    def version(self) -> str:
        """The workflow's version."""
        return self.plan.version

    @property
    def state(self) -> Any:
        """The state that it is in."""
        return self.bound.state if self.bound.is_exit else self.step.state

    @property
    def steps(self) -> int:
        """How many transitions it has made."""
        return self.step.seq if self.bound.is_exit else max(0, self.step.seq - 1)

    def __repr__(self) -> str:
        return f"<Run {self.run_id} of {self.workflow}: {self.status.value} in {self.state}>"

    def result(self, state: Any) -> RunResult:
        """What the run has come to."""
        view = self.view
        data = self.store if self.store is not view else view.base if view.owner is None else view.owner
        return RunResult(self.run_id, state, data, self.steps)

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

    # driving

    async def drive_quietly(self) -> None:
        """Run to the end; what it fails with is kept in `error`."""
        try:
            await self.drive()
        except BaseException as error:
            if not isinstance(error, Exception | asyncio.CancelledError):
                raise

    async def drive(self) -> Any:
        """Run until an exit state, and return it; None where the run was parked instead.

        Raises:
            WorkflowError: the run failed, timed out, or was cancelled or interrupted through Cano.
            asyncio.CancelledError: the task that awaits this was cancelled.
        """
        self.enter()
        token = running.set(self.step)
        self.kernel.active[self.run_id] = self
        try:
            if self.timeout is not None:
                self.deadline = self.kernel.clock.monotonic() + self.timeout
                self.watchdog().arm(self.deadline)
            if self.plan.run_started:
                self.notify(self.plan.run_started, self)
            if self.plan.limiters:
                self._check_stopped()
                async with places(self.plan.limiters, self.store):
                    self.bound = await self._loop()
            else:
                self.bound = await self._loop()
            if self.journal is None or not self.journal.over:  # what is in the store as a success is one
                if self.watch is not None and self.watch.cancels:
                    raise self._timed_out()
                if self._stop is RunStatus.CANCELLED:
                    raise asyncio.CancelledError  # its last task swallowed the cancellation
            self.status = RunStatus.SUCCEEDED
            return self.bound.state
        except Parked:
            self.status = RunStatus.PARKED
            return None
        except BaseException as error:
            if self._succeeded_before(error):
                self.status = RunStatus.SUCCEEDED
                return self.bound.state
            self.error = error = self._ended_with(error)
            self.leave()
            if self.journal is not None:
                await self.journal.end(self)
            raise error
        finally:
            self.leave()
            if self.kernel.active.get(self.run_id) is self:
                del self.kernel.active[self.run_id]
            ended = self.plan.run_parked if self.status is RunStatus.PARKED else self.plan.run_finished
            if ended:
                self.notify(ended, self)
            running.reset(token)
            if self.journal is not None:
                self.kernel.left(self)
            self.mark_over()
            if self._stop_cancels:
                await self._take_back_stop()

    async def _loop(self) -> BoundState:
        """The step loop. It is short because it is hot; what is rare lives in the methods that it calls.

        Per step it costs a few attribute reads beside the task itself: everything about a state was resolved
        at bind time; a state remembers the last result it followed and compares by identity; the sequence
        number is counted by `range`; one field says whether the last step left anything to forget, one whether
        the store was touched; listeners that nobody registered are an empty tuple.
        """
        plan, step, bound = self.plan, self.step, self.bound
        store, view, journal = self.store, self.view, self.journal
        started, finished, committed = plan.step_started, plan.step_finished, plan.transition_committed
        caught: BaseException | None = None
        monotonic, began = self.kernel.clock.monotonic, None
        while True:
            for step._seq in range(step._seq + 1, step._seq + 1 + BREATH):  # noqa: B020  # counts in place
                if bound.is_exit:
                    step._seq -= 1
                    return bound
                step._bound = bound
                if step._detail is not None:
                    self._check_stopped()
                    step._detail = step._detail.following
                if started:
                    for listener in started:
                        try:
                            listener(step)
                        except Exception as error:  # noqa: BLE001
                            self.kernel.observer_failed(listener, error)
                if bound.timed:
                    began = monotonic()
                try:
                    if bound.fast:
                        result = await bound.call(store)
                    else:
                        result = await bound.work(self, bound)
                        store, view = self.store, self.view  # an attempt that timed out in a thread keeps the old
                    target = bound.last_target if result is bound.last_result else bound.follow(result)
                except BaseException as error:  # noqa: BLE001
                    caught = error  # dealt with outside, so that later errors do not drag it along as their context
                if caught is not None:
                    target = await self._failed(bound, caught, began if bound.timed else None)
                    store, view, journal, caught = self.store, self.view, self.journal, None
                elif finished:
                    step._next = target
                    for listener in finished:
                        try:
                            listener(step)
                        except Exception as error:  # noqa: BLE001
                            self.kernel.observer_failed(listener, error)
                    step._next = None
                if journal is not None:
                    await journal.transition(self, target)
                elif view.touched:
                    view.commit()
                if committed:
                    step._next = target
                    for listener in committed:
                        try:
                            listener(step)
                        except Exception as error:  # noqa: BLE001
                            self.kernel.observer_failed(listener, error)
                    step._next = None
                bound = target
            step._bound = bound  # what comes next, should the run end here
            step._seq += 1
            await asyncio.sleep(0)
            step._seq -= 1

    async def _failed(self, bound: BoundState, error: BaseException, began: float | None) -> BoundState:
        """What follows a step that raised: a successful later attempt, its `on_exhausted` state, or the end."""
        step = self.step
        if bound.fast and isinstance(error, Exception) and not isinstance(error, Refused | Paused):
            try:
                target = bound.follow(await attempt_until_done(self, bound, error, began))
            except BaseException as last:  # noqa: BLE001
                error = last
            else:
                if self.plan.step_finished:
                    step._next = target
                    self.notify(self.plan.step_finished, step)
                    step._next = None
                return target
        if isinstance(error, Paused):
            return await self._pause(error)
        if isinstance(error, Refused) and self._told_to_end():
            error = asyncio.CancelledError()  # the task swallowed it and returned no state
        elif isinstance(error, Refused):
            error = error.error
            error._locate(**place(step))
        self.rollback(bound, error)
        parked = isinstance(error, Parked)
        if isinstance(error, asyncio.CancelledError):
            error = self._why_cancelled(error)
        step._own().error = error if not parked else step.error
        if self.plan.step_failed:
            self.notify(self.plan.step_failed, step)
        if bound.on_exhausted is not None and isinstance(error, TaskError | StepTimeoutError | JoinError):
            step._hand_on(error=error)
            if self.journal is not None and self.journal.eager:
                self.journal.hidden[ERROR] = describe(self, error)
            return bound.on_exhausted
        raise error

    async def _pause(self, paused: Paused) -> BoundState:
        """Park the run, unless what it waits for is there already: then the state that follows."""
        if self.plan.step_finished:
            self.step._next = paused.then
            self.notify(self.plan.step_finished, self.step)
            self.step._next = None
        durability = self.kernel.durability
        if durability is None:
            raise ConfigurationError(
                f"{paused.pause!r} needs a store to park the run in: install cano-memory or another"
            )
        try:
            return await durability.pause(self, paused)
        except Parked:
            if self.plan.transition_committed:
                self.step._next = paused.then
                self.notify(self.plan.transition_committed, self.step)
                self.step._next = None
            raise

    async def wait_to_retry(self, delay: float) -> None:
        """Let the seconds before the next attempt pass; in the store, where they are many."""
        if delay > PARK_AFTER and self.journal is not None and self.journal.eager:
            await self.journal.wait_to_retry(self, delay)
        await self.kernel.clock.sleep(delay)

    # stopping

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
