"""The attempts of one step: phases, retries and timeouts."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any, NoReturn

from cano.data.changes import Changes
from cano.data.copying import isolate
from cano.engine.control import StoreFailed
from cano.engine.step import location_of
from cano.engine.strand import NOT_FATAL, failure, shown
from cano.errors import (
    JoinError,
    NodeError,
    PluginError,
    RetryExhaustedError,
    RunCancelledError,
    StepTimeoutError,
    TaskError,
    TransientStoreError,
    WorkflowError,
)
from cano.model.node import Node
from cano.protocols import Clock, RetryStrategy
from cano.safe_text import safe_repr

if TYPE_CHECKING:
    from cano.engine.binding import BoundState
    from cano.engine.ports import Journal
    from cano.engine.step import Detail, Step
    from cano.engine.strand import Strand
    from cano.runtime.deadline import Watchdog

BREATH = 16
"""Attempts without a delay after which a step yields to the event loop."""
# classes for checks of each attempt: to build `A | B` takes longer than the check
NUMBER, CAUSED = (int, float), (TaskError, JoinError)


class _Progress:
    """The results of a node's phases so far: those before `step.phase` are done."""

    __slots__ = ("failure", "prepared", "result", "saved", "savepoint", "shared")

    def __init__(self, bound: BoundState | None = None) -> None:
        self.failure: Exception | None = None
        """The error of the last allowed attempt of `exec`. Once it is set, `exec_fallback` is called in its place."""
        self.prepared: Any = None
        self.result: Any = None
        self.savepoint: Changes | None = None
        self.saved = "prep"
        """The phase that the step had reached when its results were last saved."""
        self.shared = bound is None or bound.retry is None
        """Whether attempts get the values themselves, and not copies: no further attempt is possible."""

    def fresh(self, value: Any, further: bool = False) -> Any:
        """Return `value` as an attempt gets it: copied by the `isolate` rule if another attempt may need it."""
        if self.shared and not further:
            return value
        try:
            return isolate(value)
        except Exception:  # noqa: BLE001  # it cannot be copied, so it is shared like a client or a lock
            return value

    def packed(self, detail: Detail) -> list[Any]:
        """Return the results of the phases before the present one, to be stored."""
        changes = None if self.savepoint is None else self.savepoint.packed()
        given = [dict(detail.kept_attributes)] if detail.kept_attributes else []
        return [detail.phase, self.prepared, self.result, changes, dict(detail.children), *given]

    def restore(self, strand: Strand, detail: Detail) -> str:
        """Take over the results that an earlier process has saved, if there are any. Return the next phase."""
        saved = strand.step.run.restored_values.get("phases")
        if saved is None:
            return "prep"
        try:
            phase, prepared, result, changes, children, *given = saved
            phase, detail.children = {"exec": "exec", "post": "post"}[phase], dict(children)
            savepoint = None if changes is None else Changes.unpacked(changes)
            for name, (was_set, value) in given[0].items() if given else ():
                detail.attributes = detail.kept_attributes = {**detail.attributes, name: (was_set, value)}
            if savepoint is not None:
                strand.view.merge(savepoint)
        except Exception:  # noqa: BLE001  # they cannot be read, so the phases are executed again
            strand.view.rollback()
            return "prep"
        self.saved, self.prepared, self.result, self.savepoint = phase, prepared, result, savepoint
        return self.saved


_NO_PHASES = _Progress()  # for tasks that are not nodes; never written to


async def attempt_until_done(
    strand: Strand, bound: BoundState, error: Exception | None = None, began: float | None = None
) -> Any:
    """Attempt the task of `bound` until an attempt succeeds or the retry strategy gives up.

    Args:
        strand: the run, or the branch of it.
        bound: the state.
        error: the exception of the first attempt, if the step loop has already made it.
        began: when that attempt began, in monotonic seconds.

    Raises:
        TaskError: the last attempt failed.
        StepTimeoutError: the last attempt, or the whole step, exceeded its timeout.
    """
    step, clock = strand.step, strand.kernel.clock
    detail, journal = step._ensure_detail(), step._run.journal
    previous_error = detail.error  # of the previous step, if its `on_exhausted` led to this state
    if detail.began is not None:
        began = detail.began
    elif began is None:
        began = clock.monotonic()
    limit = None if bound.total_timeout is None else began + bound.total_timeout
    done = _NO_PHASES
    if bound.node is not None:
        detail.phase, done = "prep", _Progress(bound)
        if detail.began is not None:
            detail.phase = done.restore(strand, detail)
    if limit is not None and detail.began is not None and clock.monotonic() >= limit:
        if step.branch is None and strand.kernel.keeper is not None and journal is not None:
            await strand.kernel.keeper.cancel_children(step.run_id)
        raise _timed_out(step, bound, total=True, abandoned=False)
    detail.began, deadline, detail.deadline = began, detail.deadline, None
    while True:
        if error is None:
            limited = bound.timeout is not None or limit is not None
            watch = _armed(strand, bound, detail, limit, deadline) if limited else None
            try:
                result = await (
                    bound.call(strand.store) if bound.node is None else _attempt(strand, bound, bound.node, done)
                )
                if watch is None or not watch.cancels:
                    return result
                # the task has swallowed the cancellation: it has timed out all the same
                raise _expired(strand, bound, limit) or asyncio.CancelledError()
            except NOT_FATAL as caught:
                failed = None if watch is None or not watch.cancels else _expired(strand, bound, limit)
                if failed is None:
                    failed = caught if isinstance(caught, Exception) else strand.as_failure(caught)
                else:
                    failed.__cause__ = caught
                if not isinstance(failed, Exception):
                    raise
                error, failed = failed, None  # a second name would keep the error, and what its traceback refers to
            finally:
                if watch is not None:
                    watch.arm(strand.deadline)
        strand.rollback(bound, error, done.savepoint, detail.phase)
        detail.attributes = detail.kept_attributes
        if strand.is_to_end():
            raise asyncio.CancelledError from error  # the task raised this in place of its cancellation
        of_run = isinstance(error, WorkflowError)
        if of_run and isinstance(error, StepTimeoutError) and error.total and _is_own(error, step):
            raise error
        if done.failure is not None and detail.phase == "exec":
            raise_failed(step, error)
        delay = None
        if bound.retry is not None and not (of_run and _has_cancelled_child(error)):
            delay = _delay(bound.retry, detail.attempt, error, clock.monotonic() - began if bound.timed else 0.0)
        if delay is None:
            if bound.node is None or detail.phase != "exec":
                raise_failed(step, error)
            done.failure, error = error, None
            continue
        if limit is not None and clock.monotonic() + delay >= limit:
            if bound.node is not None and detail.phase == "exec":
                done.failure, error = error, None  # it was the last attempt after all
                continue
            raise _timed_out(step, bound, total=True, abandoned=False) from error
        detail.error, detail.delay = error, delay
        if strand.plan.step_retrying:
            strand.notify(strand.plan.step_retrying, step)
        if journal is not None:
            await _save(strand, journal, began, done)
        if delay or journal is not None or detail.attempt % BREATH == 0:
            await strand.wait_to_retry(delay)
        detail.attempt += 1
        detail.error, detail.delay, error, deadline = previous_error, None, None, None


async def _save(strand: Strand, journal: Journal, began: float, done: _Progress) -> None:
    """Commit that an attempt has failed, so that after a crash the next one continues, if each step is committed.

    Raises:
        StoreFailed: the store failed, or the run's lease is lost.
    """
    step, clock, phase = strand.step, strand.kernel.clock, strand.step.phase
    if not journal.commits_steps:
        return
    values = {retry_key(step): [step.attempt, clock.time() - (clock.monotonic() - began)]}
    try:
        if phase is not None and phase != done.saved and step.branch is None:
            done.saved = phase
            try:
                return await journal.save(values | {"phases": done.packed(step._ensure_detail())})
            except TransientStoreError:
                raise
            except Exception:  # noqa: BLE001  # a result cannot be stored: a crash repeats its phase
                pass
        await journal.save(values)
    except TransientStoreError as failed:
        raise StoreFailed(failed) from failed


def retry_key(step: Step) -> str:
    """Return the name under which the number of failed attempts is stored, and when the first of them began."""
    return "retry" if step.branch is None else f"retry {step.seq} {step.branch}"


def failed_attempts(saved: Any, clock: Clock) -> tuple[int, float | None]:
    """Return how many attempts of a step have failed, and when it began, in monotonic seconds, from a stored value.

    Raises:
        TypeError, ValueError: the value cannot be read.
    """
    if saved is None or isinstance(saved, int | str):  # the number alone, by earlier versions
        return int(saved or 0), None
    count, began = saved
    return int(count), clock.monotonic() - max(0.0, clock.time() - float(began))


async def _attempt(strand: Strand, bound: BoundState, node: Node[Any, Any, Any], done: _Progress) -> Any:
    """Make one attempt of a node: execute its phases that are not done yet."""
    step = strand.step
    detail = step._ensure_detail()
    listeners = strand.plan.phase_started
    if detail.phase == "prep":
        if listeners:
            strand.notify(listeners, step)
        done.prepared = await node.prep(strand.store)
        done.savepoint = strand.view.savepoint()
        step.keep_count()
        detail.phase = "exec"
    if detail.phase == "exec":
        if listeners:
            strand.notify(listeners, step)
        falls_back = type(node).exec_fallback is not Node.exec_fallback
        prepared = done.prepared if done.failure is not None else done.fresh(done.prepared, falls_back)
        if done.failure is not None:
            done.result = await node.exec_fallback(prepared, done.failure)
        else:
            done.result = await (node.exec(prepared) if bound.execute is None else bound.execute(prepared))
        done.prepared = prepared  # `post` sees it as the successful attempt left it
        step.keep_count()
        detail.phase = "post"
    if listeners:
        strand.notify(listeners, step)
    return await node.post(strand.store, done.fresh(done.prepared), done.fresh(done.result))


def _armed(strand: Strand, bound: BoundState, detail: Detail, limit: float | None, soonest: float | None) -> Watchdog:
    """Begin an attempt with timeouts. Return the watchdog, armed for the soonest of them.

    Args:
        strand, bound, detail: the run or branch, its state, and the detail of its step.
        limit: the deadline of the whole step, in monotonic seconds.
        soonest: the deadline of an attempt that began before the run was parked; None for a new one.
    """
    watch = strand.watch or strand.watchdog()
    if soonest is None:
        soonest = math.inf if bound.timeout is None else strand.kernel.clock.monotonic() + bound.timeout
    if limit is not None and limit < soonest:
        soonest = limit
    if strand.deadline is not None and strand.deadline < soonest:
        soonest = strand.deadline
    detail.deadline = soonest
    watch.arm(soonest)
    return watch


def _expired(strand: Strand, bound: BoundState, limit: float | None) -> BaseException | None:
    """Return the error of the timeout that was exceeded; None if the run itself is to end."""
    watch, step = strand.watch, strand.step
    assert watch is not None
    now = strand.kernel.clock.monotonic()
    if strand.stopping() or (strand.deadline is not None and now >= strand.deadline):
        return None
    watch.clear()
    return _timed_out(step, bound, total=limit is not None and now >= limit, abandoned=_is_left(step, bound))


def _is_left(step: Step, bound: BoundState) -> bool:
    """Return whether an attempt that was cancelled may still be executing."""
    return bound.threaded or (bound.abandons and step.phase in (None, "exec"))


def _timed_out(step: Step, bound: BoundState, *, total: bool, abandoned: bool) -> StepTimeoutError:
    limit = bound.total_timeout if total else bound.timeout
    assert limit is not None
    if total:
        message = f"task {bound.task_name!r} took longer than {limit:g} s, retries included"
    else:
        message = f"attempt {step.attempt} of task {bound.task_name!r} took longer than {limit:g} s"
    if abandoned:
        message += f"; its {'thread' if bound.threaded else 'call'} cannot be stopped and was abandoned"
    return StepTimeoutError(message, timeout=limit, total=total, abandoned=abandoned, **location_of(step))


def _is_own(error: WorkflowError, step: Step) -> bool:
    """Return whether `error` is about this step, and not about one of another run that its task executed."""
    return error.run_id == step.run_id


def _delay(retry: RetryStrategy, attempt: int, error: Exception, elapsed: float) -> float | None:
    """Return the retry strategy's delay in seconds, or None to give up.

    Raises:
        PluginError: the strategy raised, or returned anything else.
    """
    try:
        delay = retry.delay(attempt, error, elapsed)
    except Exception as problem:
        if problem is not error and problem.__context__ is None:
            problem.__context__ = error
        raise PluginError(f"retry strategy {safe_repr(retry)} raised {safe_repr(problem)}") from problem
    if delay is None:
        return None
    if isinstance(delay, bool) or not isinstance(delay, NUMBER) or not 0 <= delay < math.inf:
        message = f"retry strategy {safe_repr(retry)} returned {safe_repr(delay)}, not seconds to wait or None"
        raise PluginError(message) from error
    return delay


def _has_cancelled_child(error: BaseException | None) -> bool:
    """Return whether the attempt failed because a run was cancelled that it waited for. Another one would undo that."""
    while isinstance(error, CAUSED):
        error = error.__cause__
    return isinstance(error, RunCancelledError) and not error.with_parent


def raise_failed(step: Step, error: Exception) -> NoReturn:
    """Raise the error of a step whose last attempt raised `error`."""
    cause = _raised(error, step)
    if step.attempt > 1:
        message = f"task {step.task!r} failed {step.attempt} times, the last time with {shown(cause)}"
        raise RetryExhaustedError(message, attempts=step.attempt, phase=step.phase, **location_of(step)) from cause
    if isinstance(error, StepTimeoutError) and _is_own(error, step):
        raise error
    if step.phase is not None:
        message = f"node {step.task!r} failed in {step.phase}: {shown(cause)}"
        raise NodeError(message, phase=step.phase, **location_of(step)) from cause
    raise failure(step, cause)


def _raised(error: Exception, step: Step) -> BaseException:
    """Return what the task raised: `error`, or the CancelledError that it stands for (see `Strand.as_failure`)."""
    if isinstance(error, TaskError) and isinstance(error.__cause__, asyncio.CancelledError) and _is_own(error, step):
        return error.__cause__
    return error
