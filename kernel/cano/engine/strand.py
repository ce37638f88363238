"""`Strand`: the part of a run that one asyncio task executes. A run is a strand, and so is each branch of a split."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from cano.data.view import StoreView
from cano.engine.step import NO_ATTRIBUTES, Step, location_of
from cano.errors import StepTimeoutError, TaskError
from cano.runtime.deadline import Watchdog
from cano.safe_text import error_text

if TYPE_CHECKING:
    from cano.engine.binding import BoundState, BoundWorkflow, Listener
    from cano.engine.ports import Host

NOT_FATAL = (Exception, asyncio.CancelledError)
"""What an observer may raise without an effect on the run. Observers are not async, so it is not a cancellation."""


class Strand:
    """The context in which the attempts of a step are made.

    Attributes:
        kernel, plan: the kernel that executes it, and the bound workflow.
        store: the object that the tasks get.
        view: the store, if the kernel makes steps atomic on it; otherwise `UNMANAGED`.
        step: the current step.
        deadline: the strand's deadline in monotonic seconds, or None.
        watch: the watchdog of all timeouts, made for the first timeout; or None.
    """

    __slots__ = ("_base_cancelling", "_task", "deadline", "kernel", "plan", "step", "store", "view", "watch")

    def __init__(self, kernel: Host, plan: BoundWorkflow, store: Any) -> None:
        self.kernel = kernel
        self.plan = plan
        self.store = store
        self.view: StoreView = store if isinstance(store, StoreView) else UNMANAGED
        self.step: Step
        self.deadline: float | None = None
        self.watch: Watchdog | None = None
        self._task: asyncio.Task[Any] | None = None
        self._base_cancelling = 0

    def enter(self) -> None:
        """Record the current asyncio task as the one that executes this strand."""
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._base_cancelling = task.cancelling()

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop that executes the strand; None before it does."""
        return None if self._task is None else self._task.get_loop()

    def leave(self) -> None:
        """Close the watchdog, and take back its cancellations of the task."""
        if self.watch is not None:
            self.watch.close()
            self.watch.clear()
            self.watch = None  # it refers to the strand

    def watchdog(self) -> Watchdog:
        """Return the watchdog of all timeouts. Make it if there is none."""
        if self.watch is None:
            assert self._task is not None
            self.watch = Watchdog(self.kernel.clock, self._task, self.note_cancel)
        return self.watch

    def own_cancels(self) -> int:
        """Return how often the strand has cancelled its own task."""
        return 0 if self.watch is None else self.watch.cancels

    def cancelled_from_outside(self) -> bool:
        """Return whether the task was cancelled, not counting the strand's own cancellations."""
        return self._task.cancelling() > self._base_cancelling + self.own_cancels()  # type: ignore[union-attr]  # set

    def note_cancel(self) -> None:
        """Make the step loop check for a stop before the next step."""
        self.step._ensure_detail()

    def stopping(self) -> bool:
        """Return whether the strand is to end now, even if its task continues."""
        return self.cancelled_from_outside()

    def is_to_end(self) -> bool:
        """Return whether anything has asked the strand to end: an outside cancellation, or a timeout of its own."""
        return self.stopping() or (self.watch is not None and self.watch.cancels > 0)

    def as_failure(self, error: BaseException) -> BaseException:
        """Return `error`; but for a CancelledError that nothing asked for, the task's failure that it stands for."""
        if isinstance(error, asyncio.CancelledError) and not self.is_to_end():
            return failure(self.step, error)
        return error

    def rollback(
        self, bound: BoundState, error: BaseException, savepoint: Any = None, phase: str | None = None
    ) -> None:
        """Discard the writes of a failed attempt, and what it has emitted: in one phase, or for None in all of them."""
        if (emitter := self.step.run.emitter) is not None:
            emitter.discard(self.step, phase)
        if (detail := self.step._detail) is not None:
            detail.attributes = NO_ATTRIBUTES
        if bound.threaded and (
            isinstance(error, asyncio.CancelledError) or (isinstance(error, StepTimeoutError) and error.abandoned)
        ):
            self.kernel.threads.abandon()
        if self.store is self.view:
            # a thread or task that the attempt left behind may still write: it keeps the old view, never committed
            reads = self.view.reads
            self.store = self.view = self.view.detached(None if reads is None else set(reads))
            if savepoint is not None:
                self.view.merge(savepoint)

    async def wait_to_retry(self, delay: float) -> None:
        """Wait `delay` seconds before the next attempt."""
        await self.kernel.clock.sleep(delay)

    def notifier(self, listeners: tuple[Listener, ...]) -> Listener:
        """Return the function that calls these observers. Only that of a single one may raise what `notify` catches."""
        return listeners[0] if len(listeners) == 1 else partial(self.notify, listeners)

    def notify(self, listeners: tuple[Listener, ...], subject: Any) -> None:
        """Call observers. Their exceptions are counted and do not fail the run."""
        for listener in listeners:
            try:
                listener(subject)
            except NOT_FATAL as error:
                self.kernel.observer_failed(listener, error)


def failure(step: Step, error: BaseException) -> TaskError:
    """Return the failure of a task that raised `error`; a CancelledError is one that nothing asked for."""
    failed = TaskError(f"task {step.task!r} failed: {shown(error)}", **location_of(step))
    failed.__cause__ = error
    return failed


def shown(error: BaseException) -> str:
    """Return the text of what a task raised, for messages."""
    if isinstance(error, asyncio.CancelledError):
        return "CancelledError: it awaited something that was cancelled; its run was not"
    return error_text(error)


UNMANAGED = StoreView({})
"""The view of a run on an object of the user's own, on which the kernel can neither commit nor roll back."""
