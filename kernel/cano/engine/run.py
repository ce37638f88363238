"""A run: one pass of a workflow, and the step loop that drives it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cano.durability.journal import ERROR, PARK_AFTER, describe
from cano.engine.attempts import attempt_until_done, place
from cano.engine.binding import BoundState, Plan, Refused
from cano.engine.limiter import places
from cano.engine.step import Step, running
from cano.engine.stopping import Endable
from cano.errors import (
    ConfigurationError,
    JoinError,
    StepTimeoutError,
    TaskError,
)
from cano.model.result import RunResult
from cano.model.waiting import Parked, Paused, StoreFailed
from cano.records import RunStatus, Wait

if TYPE_CHECKING:
    from cano.kernel.kernel import Kernel

BREATH = 1024
"""Steps after which a run that never waits lets the event loop turn, so that others run and timers fire."""

NOTHING_KEPT: Mapping[str, Any] = {}


class Run(Endable):
    """One pass of a workflow. Read it; the engine alone writes it.

    Attributes:
        run_id: its id.
        plan: the bound workflow; `workflow` and `version` are its name and version.
        status: where it stands.
        error: what it failed with, or None.
        timeout: seconds that it may take, or None; due: wall-clock seconds when these are over, once it has begun.
        parent_id: id of the run that started it as a sub-workflow, or None.
        resumed: whether it goes on from an earlier time.
        store: what the tasks get.
        wait: what it waits for, while it is parked.
        journal: its line in the store, or None.
        kept: values of the engine's own that a resumed run was found with.
        carried: text that observers keep with the run, also when it goes on elsewhere; see `carry`.
        successor: the object that drives it now, after this one was parked.
    """

    __slots__ = ("carried", "kept", "parent_id", "resumed", "successor", "wait")

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
        Endable.__init__(self, kernel, plan, run_id, store, timeout)
        self.parent_id = parent_id
        self.resumed = False
        self.kept: Mapping[str, Any] = NOTHING_KEPT
        self.carried: Mapping[str, str] = NOTHING_KEPT
        self.wait: Wait | None = None
        self.successor: Run | None = None
        self.step = Step(self, plan.start)

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

    # driving

    def carry(self, name: str, text: str) -> None:
        """Keep a line of an observer's with the run, such as a W3C traceparent, from its next commit on."""
        self.carried = {**self.carried, name: text}
        if self.journal is not None:
            self.journal.carried = self.carried

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
            in_time = self.arm()
            if self.plan.run_started:
                self.notify(self.plan.run_started, self)
            if not in_time:
                if self.journal is not None:
                    await self.kernel.store_of_runs.cancel_children(self.run_id)
                raise self._timed_out()
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
        elif isinstance(error, StoreFailed):
            error = error.error
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
