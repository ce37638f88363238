"""The attempts of one step: phases, retries and time limits."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any, NoReturn

from cano.errors import (
    NodeError,
    PluginError,
    RetryExhaustedError,
    StepTimeoutError,
    TaskError,
)
from cano.protocols import Call

if TYPE_CHECKING:
    from cano.engine.binding import BoundState
    from cano.engine.step import Step
    from cano.engine.strand import Strand
    from cano.engine.view import Changes


class _Progress:
    """What the attempts of a node have achieved so far: the phases before `step.phase` are done."""

    __slots__ = ("failure", "prepared", "result", "savepoint")

    def __init__(self) -> None:
        self.failure: Exception | None = None
        """What the last allowed attempt of `exec` raised: from then on `exec_fallback` takes its place."""
        self.prepared: Any = None
        self.result: Any = None
        self.savepoint: Changes | None = None


_NO_PHASES = _Progress()  # for tasks that are no nodes; nobody writes to it


async def attempt_until_done(
    run: Strand, bound: BoundState, error: Exception | None = None, began: float | None = None
) -> Any:
    """Attempt the task of `bound` until an attempt succeeds or the retry strategy gives up.

    Args:
        run: the run, or the branch of it.
        bound: the state.
        error: what the first attempt has raised, where the step loop made it already.
        began: when it did that, in monotonic seconds.

    Raises:
        TaskError: the last attempt failed.
        StepTimeoutError: it, or the whole step, took too long.
    """
    step, clock = run.step, run.kernel.clock
    detail = step._own()
    led_here = detail.error  # of the step before, where its `on_exhausted` led to this one
    if began is None:
        began = clock.monotonic()
    limit = None if bound.total_timeout is None else began + bound.total_timeout
    done = _NO_PHASES
    if bound.node is not None:
        detail.phase, done = "prep", _Progress()
    while True:
        if error is None:
            try:
                if bound.timeout is None and limit is None:
                    return await _attempt(run, bound, done)
                return await _attempt_within(run, bound, done, limit)
            except Exception as caught:  # noqa: BLE001
                error = caught
        run.rollback(bound, error, done.savepoint)
        run.forgive_group(error)
        if run.stopping() or (run.watch is not None and run.watch.cancels):
            raise asyncio.CancelledError from error  # it is what the task made of its cancellation
        if isinstance(error, StepTimeoutError) and error.total and _is_own(error, step):
            raise error
        if done.failure is not None and detail.phase == "exec":
            raise_failed(step, error)
        delay = _delay(bound, step, error, clock.monotonic() - began)
        if delay is None:
            if bound.node is None or detail.phase != "exec":
                raise_failed(step, error)
            done.failure, error = error, None
            continue
        if limit is not None and clock.monotonic() + delay >= limit:
            if bound.node is not None and detail.phase == "exec":
                done.failure, error = error, None  # it was the last attempt after all
                continue
            raise _total_timeout(step, bound, abandoned=False) from error
        detail.error, detail.delay = error, delay
        if run.plan.step_retrying:
            run.notify(run.plan.step_retrying, step)
        await run.wait_to_retry(delay)
        detail.attempt += 1
        detail.error, detail.delay, error = led_here, None, None


async def _attempt(run: Strand, bound: BoundState, done: _Progress) -> Any:
    """One attempt: the whole task, or the phases of a node that are still to be done."""
    node, step = bound.node, run.step
    if node is None:
        return await bound.call(run.store)
    detail = step._own()
    heard = run.plan.phase_started
    if detail.phase == "prep":
        if heard:
            run.notify(heard, step)
        done.prepared = await node.prep(run.store)
        done.savepoint = run.view.savepoint()
        detail.phase = "exec"
    if detail.phase == "exec":
        if heard:
            run.notify(heard, step)
        executor = run.kernel.executor
        if done.failure is not None:
            done.result = await node.exec_fallback(done.prepared, done.failure)
        elif executor is None:
            done.result = await node.exec(done.prepared)
        else:
            done.result = await executor.submit(
                Call(node.exec, (done.prepared,), step.run_id, bound.name, step.seq, step.attempt, step.idempotency_key)
            )
        detail.phase = "post"
    if heard:
        run.notify(heard, step)
    return await node.post(run.store, done.prepared, done.result)


async def _attempt_within(run: Strand, bound: BoundState, done: _Progress, limit: float | None) -> Any:
    """One attempt within its time limits; `limit` is that of the whole step, in monotonic seconds."""
    watch = run.watchdog()
    soonest = math.inf if bound.timeout is None else run.kernel.clock.monotonic() + bound.timeout
    if limit is not None and limit < soonest:
        soonest = limit
    if run.deadline is not None and run.deadline < soonest:
        soonest = run.deadline
    run.step._own().deadline = soonest
    watch.arm(soonest)
    try:
        result = await (bound.call(run.store) if bound.node is None else _attempt(run, bound, done))
    except (Exception, asyncio.CancelledError) as error:
        if watch.cancels and (timeout := _expired(run, bound, limit)) is not None:
            raise timeout from error
        raise
    finally:
        watch.arm(run.deadline)
    if watch.cancels:
        # the task swallowed the cancellation of its timeout: it has still timed out
        if (timeout := _expired(run, bound, limit)) is not None:
            raise timeout
        raise asyncio.CancelledError
    return result


def _expired(run: Strand, bound: BoundState, limit: float | None) -> StepTimeoutError | None:
    """The error of the limit that was reached; None where the run itself is to end."""
    watch, step = run.watch, run.step
    assert watch is not None
    now = run.kernel.clock.monotonic()
    if run.stopping() or (run.deadline is not None and now >= run.deadline):
        return None
    watch.clear()
    if limit is not None and now >= limit:
        return _total_timeout(step, bound, abandoned=bound.threaded)
    assert bound.timeout is not None
    message = f"attempt {step.attempt} of task {bound.task_name!r} took longer than {bound.timeout:g} s"
    return _timeout_error(message, bound.timeout, step, total=False, abandoned=bound.threaded)


def _total_timeout(step: Step, bound: BoundState, *, abandoned: bool) -> StepTimeoutError:
    assert bound.total_timeout is not None
    message = f"task {bound.task_name!r} took longer than {bound.total_timeout:g} s, retries included"
    return _timeout_error(message, bound.total_timeout, step, total=True, abandoned=abandoned)


def _timeout_error(message: str, limit: float, step: Step, *, total: bool, abandoned: bool) -> StepTimeoutError:
    if abandoned:
        message += "; its thread cannot be stopped and was abandoned"
    return StepTimeoutError(message, timeout=limit, total=total, abandoned=abandoned, **place(step))


def _is_own(error: StepTimeoutError, step: Step) -> bool:
    """Whether `error` is about this step, and not something that its task raised."""
    return error.run_id == step.run_id


def _delay(bound: BoundState, step: Step, error: Exception, elapsed: float) -> float | None:
    """What the retry strategy says. It is a decider: what is wrong with it fails the run."""
    if bound.retry is None:
        return None
    try:
        delay = bound.retry.delay(step.attempt, error, elapsed)
    except Exception as problem:
        if problem is not error and problem.__context__ is None:
            problem.__context__ = error
        raise PluginError(f"retry strategy {bound.retry!r} raised {problem!r}") from problem
    if delay is None:
        return None
    if isinstance(delay, bool) or not isinstance(delay, int | float) or not 0 <= delay < math.inf:
        message = f"retry strategy {bound.retry!r} returned {delay!r}, not seconds to wait or None"
        raise PluginError(message) from error
    return delay


def raise_failed(step: Step, error: Exception) -> NoReturn:
    """End a step whose last attempt raised `error`."""
    if step.attempt > 1:
        message = f"task {step.task!r} failed {step.attempt} times, the last time with {_show(error)}"
        raise RetryExhaustedError(message, attempts=step.attempt, phase=step.phase, **place(step)) from error
    if isinstance(error, StepTimeoutError) and _is_own(error, step):
        raise error
    if step.phase is not None:
        message = f"node {step.task!r} failed in {step.phase}: {_show(error)}"
        raise NodeError(message, phase=step.phase, **place(step)) from error
    raise TaskError(f"task {step.task!r} failed: {_show(error)}", **place(step)) from error


def place(step: Step) -> dict[str, Any]:
    """Where a step is, as the arguments of a `WorkflowError`."""
    return {"run_id": step.run_id, "workflow": step.workflow, "state": step.state, "attempt": step.attempt}


def _show(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
