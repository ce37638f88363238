"""A run: one execution of a workflow, and the step loop that executes it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cano.engine.attempts import attempt_until_done
from cano.engine.binding import BoundState, BoundWorkflow
from cano.engine.control import Parked, ParkedForChild, Paused, Refused, StoreFailed
from cano.engine.limiter import Request, Slot, acquire, release
from cano.engine.step import Step, location_of, running
from cano.engine.stopping import Stop, reason_of, status_of, timed_out
from cano.engine.strand import NOT_FATAL, Strand, failure
from cano.errors import CanoError, JoinError, StepTimeoutError, TaskError
from cano.model.result import RunResult
from cano.records import RunStatus, Wait
from cano.runtime.frames import clear_locals
from cano.runtime.groups import taking_back
from cano.safe_text import error_text, escaped
from cano.tracebacks import fold, raised_at

if TYPE_CHECKING:
    from cano.engine.ports import Emitter, Host, Journal, RestorePoint

BREATH = 1024
"""Steps after which a run that never waits yields to the event loop, so that other runs and timers proceed."""

UNFOLLOWED = (Refused, Paused)
NO_VALUES: Mapping[str, Any] = {}
# to read a member of an enum takes half as long as to start a coroutine
RUNNING, PARKED, SUCCEEDED = RunStatus.RUNNING, RunStatus.PARKED, RunStatus.SUCCEEDED
_log = logging.getLogger("cano")


class Run(Strand):
    """One execution of a workflow. Only the engine writes to it.

    Attributes:
        run_id: the run's id.
        plan: the bound workflow; `workflow` and `version` are its name and version.
        status: the run's status.
        error: the exception that the run failed with, or None.
        timeout: the run's timeout in seconds, or None.
        due: the run's deadline in wall-clock seconds; None without a timeout, or before the run has begun.
        parent_id: id of the run that started this one as a sub-workflow, or None.
        parent: that run, if this kernel executes it.
        caller: the run whose task waits for this one, or None.
        held: the slots of limits that the run holds: the workflow's, then the state's.
        waits_for: the slot that the run waits for, or None.
        resumed: whether the run continues an earlier execution.
        store: the object that the tasks get.
        wait: the run's wait while it is parked; otherwise None.
        journal: the run's entries in the store, or None.
        restored_values: the engine's own values in the record that a resumed run continues from.
        carried: texts of observers that are stored with the run; see `carry`.
        successor: the object that continues the run after this one was parked, or None.
        attributes: the search attributes that steps have changed while no store kept the run, as `Step` has them.
        emitter: writes what the run's steps emit; None before they emit anything.
        askers: the number of handles to the run, and of callers that wait for its end or have got its error.
    """

    __slots__ = (
        "__weakref__", "_ended", "_stop", "askers", "attributes", "bound", "caller", "carried", "due", "emitter",
        "error", "held", "journal", "parent", "parent_id", "restored_values", "resumed", "run_id", "status",
        "successor", "timeout", "wait", "waits_for",
    )  # fmt: skip

    def __init__(
        self,
        kernel: Host,
        plan: BoundWorkflow,
        run_id: str,
        store: Any,
        timeout: float | None = None,
        parent_id: str | None = None,
    ) -> None:
        Strand.__init__(self, kernel, plan, store)
        self.run_id = run_id
        self.timeout = timeout
        self.due: float | None = None
        self.parent: Run | None = None
        self.parent_id = parent_id
        self.caller: Run | None = None
        self.held: tuple[Slot, ...] = ()
        self.waits_for: Request | None = None
        self.journal: Journal | None = None
        self.status = RUNNING
        self.error: BaseException | None = None
        self.bound = plan.start
        self.resumed = False
        self.restored_values: Mapping[str, Any] = NO_VALUES
        self.carried: Mapping[str, str] = NO_VALUES
        self.wait: Wait | None = None
        self.successor: Run | None = None
        self.step = Step(self, plan.start)
        self.askers = 0
        self.emitter: Emitter | None = None
        self.attributes: Mapping[str, tuple[bool, Any]] = NO_VALUES
        self._ended: asyncio.Future[None] | float | None = None  # a float once it has stopped
        self._stop: Stop | None = None

    @classmethod
    def restored(cls, kernel: Host, plan: BoundWorkflow, point: RestorePoint) -> Run:
        """Return the run that continues from `point`."""
        run = cls(kernel, plan, point.run_id, point.view, timeout=point.timeout, parent_id=point.parent_id)
        run.resumed = True
        run.journal, run.due = point.journal, point.due
        run.restored_values, run.carried = point.values, point.carried
        run.bound, run.error = plan.by_name[point.state], point.failure
        run.step.restore(run.bound, point.seq, point.detail)
        return run

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
        """The state that the run is in."""
        return self.bound.state if self.bound.is_exit else self.step.state

    @property
    def steps(self) -> int:
        """The number of transitions that the run has made."""
        return self.step.seq if self.bound.is_exit else max(0, self.step.seq - 1)

    def __repr__(self) -> str:
        return f"<Run {self.run_id} of {self.workflow}: {self.status.value} in {self.state}>"

    def result(self, state: Any) -> RunResult:
        """Return the result of a run that ended in `state`."""
        view = self.view
        data = self.store if self.store is not view else view.base if view.owner is None else view.owner
        # not by its constructor, which is a Python function
        return tuple.__new__(RunResult, (self.run_id, state, data, self.step.seq))

    def carry(self, name: str, text: str) -> None:
        """Store a text of an observer, such as a W3C traceparent, with the next commit, for the life of the run."""
        self.carried = {**self.carried, name: text}
        if self.journal is not None:
            self.journal.carry(self.carried)

    # executing

    async def drive_quietly(self) -> None:
        """Execute the run to its end. Its exception is in `error` and is not raised."""
        with suppress(Exception, asyncio.CancelledError):
            await self.drive()
        if self.error is not None:
            self.report_unasked()

    async def drive(self) -> Any:
        """Execute the run until an exit state, and return that; None if the run was parked instead.

        Raises:
            WorkflowError: the run failed, timed out, or was cancelled or interrupted through Cano.
            asyncio.CancelledError: the asyncio task that awaits this was cancelled.
        """
        self.enter()
        before = running.get(None)
        running.set(self.step)  # without a token, which would take memory as long as the run does
        self.kernel.active[self.run_id] = self
        try:
            in_time = self.timeout is None or self._arm(self.timeout)
            if self.plan.run_started:
                self.notify(self.plan.run_started, self)
            if self.error is not None or not in_time:
                if self.kernel.keeper is not None and self.journal is not None:
                    await self.kernel.keeper.cancel_children(self.run_id)
                raise self.error or timed_out(self)
            if self.journal is not None:
                self.journal.check_lease()
            if self.plan.limiters and not self.bound.is_exit:
                self._check_stopped()
                await acquire(self.plan.limiters, self)
            work = self._loop()
            self.bound = await (work if self.plan.instant and self.journal is None else taking_back(work))
            if self.journal is None or not self.journal.ended:  # a success that is committed remains one
                if self.watch is not None and self.watch.cancels:
                    raise timed_out(self)
                if self._stop is not None and self._stop.status is RunStatus.CANCELLED:
                    raise asyncio.CancelledError  # its last task swallowed the cancellation
            self.status = SUCCEEDED
            return self.bound.state
        except Parked:
            self.status = PARKED
            return None
        except BaseException as error:
            if self._ended_in_store(error):
                self.status = SUCCEEDED
                return self.bound.state
            self.error = error = self._ended_with(error)
            self.leave()
            if self.journal is not None:
                await self.journal.end(self)
            raise error
        finally:
            if self.watch is not None or self._stop is not None:
                self.leave()
            if self.held:
                release(self)
            if self.kernel.active.get(self.run_id) is self:
                del self.kernel.active[self.run_id]
            if self.plan.run_finished or self.plan.run_parked:
                self.notify(self.plan.run_parked if self.status is PARKED else self.plan.run_finished, self)
            running.set(before)
            if self.journal is not None and self.kernel.keeper is not None:
                self.kernel.keeper.stopped_driving(self)
            self.mark_stopped()
            if self._stop is not None and self._task is not None:
                await self._stop.take_back(self._task, self)

    async def _loop(self) -> BoundState:
        """Execute steps until an exit state, and return that state. The loop is hot, so rare work is in its callees.

        Beside the task itself, a step costs a few attribute reads. Binding has resolved everything about a state, and
        has put what each step reads into one list. A state remembers the last result that it followed, and compares
        results by identity. The iterator counts the sequence number. One field tells whether the last step has left a
        detail to drop, another one whether the store was changed. A hook without listeners is None here, since testing
        a tuple for truth takes longer. A single listener is called without a loop.
        """
        plan, step, bound = self.plan, self.step, self.bound
        store, view, journal = self.store, self.view, self.journal
        started = self.notifier(plan.step_started) if plan.step_started else None
        finished = self.notifier(plan.step_finished) if plan.step_finished else None
        committed = self.notifier(plan.transition_committed) if plan.transition_committed else None
        quiet = journal is None and finished is None and committed is None
        caught: BaseException | None = None
        began: float | None = None
        while True:
            for _ in step.counted(BREATH):
                call, expected, target = bound.hot
                if call is None:
                    if bound.is_exit:
                        step.count(-1)
                        return bound
                    if bound.timed:
                        began = self.kernel.clock.monotonic()
                step._bound = bound
                if step._detail is not None:
                    self._check_stopped()
                    step._detail = step._detail.following
                if started is not None:
                    try:
                        started(step)
                    except NOT_FATAL as error:
                        self.kernel.observer_failed(started, error)
                try:
                    if call is not None:
                        result = await call(store)
                    else:
                        result = await (bound.call(store) if bound.fast else bound.work(self, bound))
                        store, view = self.store, self.view  # an attempt that timed out in a thread keeps the old
                        _, expected, target = bound.hot  # meanwhile other runs may have followed the same result
                        if self._task.cancelling():  # type: ignore[union-attr]  # it is set by now
                            self.note_cancel()
                    if result is not expected:
                        target = bound.follow(result)
                except BaseException as error:  # noqa: BLE001
                    caught = error  # dealt with outside, so that later errors do not drag it along as their context
                else:
                    if quiet:
                        if view.touched:
                            view.commit()
                        bound = target
                        continue
                if caught is not None:
                    target = await self._failed(bound, caught, began if bound.timed else None)
                    store, view, journal, caught = self.store, self.view, self.journal, None
                    quiet = quiet and journal is None  # a run that was to be parked is kept from now on
                elif finished is not None:
                    step._next = target
                    try:
                        finished(step)
                    except NOT_FATAL as error:
                        self.kernel.observer_failed(finished, error)
                    step._next = None
                if journal is not None:
                    await journal.transition(self, target)
                elif view.touched:
                    view.commit()
                if committed is not None:
                    step._next = target
                    try:
                        committed(step)
                    except NOT_FATAL as error:
                        self.kernel.observer_failed(committed, error)
                    step._next = None
                bound = target
            step.count(1)
            step._bound = bound  # what comes next, should the run end here
            await asyncio.sleep(0)
            step.count(-1)

    async def _failed(self, bound: BoundState, error: BaseException, began: float | None) -> BoundState:
        """Return the next state after a step has raised `error`, making further attempts if they are allowed.

        Raises:
            BaseException: the error that the run ends with: no attempt succeeds, and there is no `on_exhausted` state.
        """
        step, error = self.step, error if isinstance(error, Exception) else self.as_failure(error)
        if bound.fast and isinstance(error, Exception) and not isinstance(error, UNFOLLOWED):
            try:
                target = bound.follow(await attempt_until_done(self, bound, error, began))
            except BaseException as last:  # noqa: BLE001
                error = last
            else:
                self._notify_following(self.plan.step_finished, target)
                return target
        if isinstance(error, UNFOLLOWED) and self.is_to_end():
            error = asyncio.CancelledError()  # the task swallowed the cancellation and returned no state
        if isinstance(error, Paused):
            return await self._pause(error)
        if isinstance(error, Refused):
            error = error.error
            error._locate(**location_of(step))
        elif isinstance(error, StoreFailed):
            error = error.error
        elif isinstance(error, Exception) and not isinstance(error, CanoError):
            error = failure(step, error)  # a `Work` raised it
        self.rollback(bound, error)
        if isinstance(error, ParkedForChild):
            self._notify_following(self.plan.step_finished, bound)
            raise error
        parked = isinstance(error, Parked)
        if isinstance(error, asyncio.CancelledError):
            error = reason_of(self, error)
        if not parked:
            step.fail(error)
        if self.plan.step_failed:
            self.notify(self.plan.step_failed, step)
        if bound.on_exhausted is not None and isinstance(error, TaskError | StepTimeoutError | JoinError):
            fold(error)
            if self.journal is not None:
                self.journal.remember_error(self, error)
            clear_locals(error)  # a chain of such steps would keep the local variables of all its tasks
            step.hand_on(error=error)
            return bound.on_exhausted
        raise error

    async def _pause(self, paused: Paused) -> BoundState:
        """Park the run; or, if its signal or time has already come, return the next state. Raises Parked."""
        self._notify_following(self.plan.step_finished, paused.then)
        try:
            return await self.kernel.required_keeper(repr(paused.pause)).park(self, paused)
        except Parked:
            self._notify_following(self.plan.transition_committed, paused.then)
            raise

    def _notify_following(self, listeners: tuple[Any, ...], target: BoundState) -> None:
        """Call observers while `step.next_state` is the state that follows."""
        if listeners:
            self.step._next = target
            self.notify(listeners, self.step)
            self.step._next = None

    async def wait_to_retry(self, delay: float) -> None:
        """Wait `delay` seconds before the next attempt. If they are many, park the run instead: raise Parked."""
        if self.journal is not None:
            await self.journal.wait_to_retry(self, delay)
        await self.kernel.clock.sleep(delay)
        if self.journal is not None:
            self.journal.check_lease()

    # ending

    def _arm(self, remaining: float) -> bool:
        """Start the run's timeout. Return False if its deadline has already passed."""
        clock = self.kernel.clock
        if self.due is None:
            self.due = clock.time() + remaining
        else:
            remaining = min(remaining, self.due - clock.time())
        self.deadline = clock.monotonic() + remaining
        self.watchdog().arm(self.deadline)
        return remaining > 0

    def driven_by(self, task: asyncio.Task[Any] | None) -> bool:
        """Return whether `task` executes the run."""
        return self._task is not None and self._task is task

    async def ended(self) -> None:
        """Wait until this object has stopped executing the run. The run's error is not raised."""
        if not isinstance(self._ended, float):
            if self._ended is None:
                self._ended = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._ended)

    def when_stopped(self, then: Callable[[], object]) -> None:
        """Call `then` when this object stops executing the run, unless it has stopped."""
        if not isinstance(self._ended, float):
            if self._ended is None:
                self._ended = asyncio.get_running_loop().create_future()
            self._ended.add_done_callback(lambda _: then())

    def report_unasked(self) -> None:
        """Log the error that the run failed with, once, if no caller asks for it and no plugin observes runs' ends.

        The error of a child becomes one of its parent's step.
        """
        error, asked = self.error, self.askers > 0 or self.parent_id is not None
        if error is not None and not asked and self.status is RunStatus.FAILED and not self.plan.run_finished:
            from cano.redaction import redacted  # late: its patterns take long to compile

            self.askers = 1
            texts = self.run_id, redacted(error_text(error)), raised_at(error) or f"state {self.bound.name}"
            _log.warning("run %s failed: %s; at %s; no caller asks for its result", *map(escaped, texts))

    def mark_stopped(self) -> None:
        """Wake all callers that wait in `ended`, and note the time."""
        ended, self._ended = self._ended, float(self.kernel.clock.time())
        if ended is not None and not isinstance(ended, float):
            ended.set_result(None)

    @property
    def stopped_at(self) -> float:
        """When this object stopped executing the run, in wall-clock seconds; 0 before."""
        return self._ended if isinstance(self._ended, float) else 0.0

    def stop(self, status: RunStatus, *, lost: str = "", with_parent: bool = False) -> None:
        """Ask the run to end as CANCELLED or INTERRUPTED. Does nothing after its end.

        Args:
            status: the status to end with, unless an earlier call has set one.
            lost: how it lost its lease; empty if it did not.
            with_parent: whether it is cancelled only because its parent, or the attempt that waits for it, ends.
        """
        if self.status is not RUNNING:
            return
        if self._stop is None:
            self._stop = Stop(status)
        self._stop.lost = self._stop.lost or lost
        self._stop.on_request |= status is RunStatus.CANCELLED and not with_parent
        self.note_cancel()
        if self._task is not None:
            self._stop.cancel(self._task, self.kernel.clock)

    def leave(self) -> None:
        """See `Strand.leave`. A requested stop does not cancel the task again."""
        Strand.leave(self)
        if self._stop is not None:
            self._stop.close()

    def own_cancels(self) -> int:
        """Return how often the run has cancelled its own task, `stop` included."""
        cancels = 0 if self.watch is None else self.watch.cancels
        return cancels if self._stop is None else cancels + self._stop.cancels

    def stopping(self) -> bool:
        """Return whether the run is to end before its next step, even if its task continues."""
        cancelling = self._task.cancelling()  # type: ignore[union-attr]  # it is set by now
        return self._stop is not None or (cancelling > self._base_cancelling and self.cancelled_from_outside())

    def interrupted(self) -> bool:
        """Return whether this kernel has interrupted the run, or its parent, to be resumed later.

        A cancellation of the asyncio task does not count: the parent may continue without its child, as after
        `asyncio.timeout`. If the parent is interrupted by it, to resume the parent also resumes the child.
        """
        if self._stop is not None:
            return self._stop.status is RunStatus.INTERRUPTED
        return self.parent is not None and self.parent.interrupted()

    def _check_stopped(self) -> None:
        """Before a step, or before the first: return the slots of the state before, whose step is committed.

        Keep the attributes that this step has set, should the run be parked and so stored.

        Raises:
            asyncio.CancelledError: the run is to end; its task has swallowed an earlier cancellation.
        """
        if self.held:
            release(self, keep=len(self.plan.limiters))
        if self.is_to_end():
            raise asyncio.CancelledError
        if (detail := self.step._detail) is not None and detail.attributes and self.journal is None:
            self.attributes = {**self.attributes, **detail.attributes}

    def _ended_with(self, error: BaseException) -> BaseException:
        """Set the status that `error` ends the run with, and return the error to raise."""
        self.view.rollback()
        if isinstance(error, asyncio.CancelledError):
            error = reason_of(self, error)
        if not self.bound.is_exit:  # otherwise its last task swallowed the cancellation
            self.bound = self.step._bound
        self.status = status_of(error, stored=self.journal is not None)
        fold(error)
        return error

    def _ended_in_store(self, error: BaseException) -> bool:
        """Return whether the exit state was committed before the run was asked to end."""
        journal = self.journal
        if journal is None or not journal.ended or not isinstance(error, asyncio.CancelledError):
            return False
        if self.cancelled_from_outside():
            return False
        self.bound = self.plan.by_name[journal.state]
        return True
