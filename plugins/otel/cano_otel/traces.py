"""The observer that traces runs: a span for each segment of a run, each step, each attempt and each node phase."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from contextvars import Token
from typing import Any

from cano import Run, RunStatus, Step, TaskError, hookimpl, state_name
from cano.safe_text import safe_str
from opentelemetry import trace
from opentelemetry.context import Context, attach
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, TracerProvider

from cano_otel import names
from cano_otel.current import detach
from cano_otel.failures import CANCELLATIONS, error_type, result_of
from cano_otel.links import TRACEPARENT, parent_and_links, traceparent
from cano_otel.names import (  # imported one by one, because every step reads them
    ATTEMPT,
    BRANCH,
    BRANCH_NAME,
    NEXT_STATE,
    NUMBER,
    RUN_ID,
    SEQ,
    STATE,
    STEP,
    SUCCESS,
    TASK,
    TASK_RESULT,
    TASK_RUN_ID,
    WORKFLOW,
)

MAX_SCHEDULED = 1000
"""The number of due runs to remember until they start."""


class _OpenRun:
    """The open span of a run's current segment."""

    __slots__ = ("span", "token")

    def __init__(self, span: Span, token: Token[Context]) -> None:
        self.span = span
        self.token = token


class _OpenStep:
    """The open spans of a step, its current attempt and phase. With `detail` "step" there is no attempt."""

    __slots__ = ("attempt", "context", "phase", "phase_name", "span", "token")

    def __init__(self, span: Span, context: Context) -> None:
        self.span = span
        self.context = context
        self.attempt: Span | None = None
        self.phase: Span | None = None
        self.phase_name = ""
        self.token: Token[Context] | None = None


class Traces:
    """An observer that traces runs, with times of the kernel's clock.

    A span is current while its task runs, in the task's threads and in the asyncio tasks that it starts.

    Args:
        provider: receives the spans.
        detail: the finest spans: "run", "step" or "attempt".
    """

    def __init__(self, provider: TracerProvider, detail: str = "attempt") -> None:
        self.provider = provider
        self._tracer: Tracer = provider.get_tracer(names.SCOPE)
        self._steps = detail != "run"
        self._attempts = detail == "attempt"
        # by `id()` of the run or step, which lives from its `started` hook to `finished`, `parked` or `failed`
        self._runs: dict[int, _OpenRun] = {}
        self._open: dict[int, _OpenStep] = {}
        # id of a run that is about to start -> its schedule
        self._scheduled: dict[str, str] = {}

    # schedules: these hooks come from cano-scheduler, if it is installed

    @hookimpl(optionalhook=True)
    def cano_schedule_fired(self, tick: Any) -> None:
        """Remember the schedule of the run that starts next."""
        self._remember_schedule(tick)

    @hookimpl(optionalhook=True)
    def cano_schedule_late(self, tick: Any) -> None:
        """Remember the schedule of the run that starts next."""
        self._remember_schedule(tick)

    def _remember_schedule(self, tick: Any) -> None:
        if tick.nominal is None or tick.run_id is None:
            return  # triggered by a caller, not by the time: its span is a child of the caller's
        self._scheduled[tick.run_id] = tick.schedule
        if len(self._scheduled) > MAX_SCHEDULED:  # of a run that could not start
            del self._scheduled[next(iter(self._scheduled))]

    # runs

    @hookimpl(tryfirst=True)
    def cano_run_started(self, run: Run) -> None:
        """Start a segment's span and make it current."""
        schedule = self._scheduled.pop(run.run_id, None)
        context, links = parent_and_links(run, schedule is not None)
        attributes: dict[str, Any] = {
            names.ACTION: names.RUN,
            names.WORKFLOW: run.workflow,
            names.RUN_ID: run.run_id,
            names.VERSION: run.version,
            names.RESUMED: run.resumed,
        }
        if run.parent_id is not None:
            attributes[names.PARENT_ID] = run.parent_id
        if schedule is not None:
            attributes[names.SCHEDULE] = schedule
        parent = trace.get_current_span(context).get_span_context()
        span = self._tracer.start_span(
            f"{names.RUN} {run.workflow}",
            context,
            kind=SpanKind.INTERNAL if parent.is_valid and not parent.is_remote else SpanKind.SERVER,
            attributes=attributes,
            links=links,
            start_time=_now(run),
        )
        if header := traceparent(span):
            run.carry(TRACEPARENT, header)
        self._runs[id(run)] = _OpenRun(span, attach(trace.set_span_in_context(span, context)))

    @hookimpl(trylast=True)
    def cano_run_parked(self, run: Run) -> None:
        """End the segment's span. The next segment links to it."""
        if run.wait is not None and (open_run := self._runs.get(id(run))) is not None:
            if run.wait.child is not None:
                open_run.span.set_attribute(names.WAIT_CHILD, run.wait.child)
            elif run.wait.signal is not None:
                open_run.span.set_attribute(names.WAIT_SIGNAL, run.wait.signal)
            if run.wait.until is not None:
                open_run.span.set_attribute(names.WAIT_UNTIL, run.wait.until)
        self._end_run(run)

    @hookimpl(trylast=True)
    def cano_run_finished(self, run: Run) -> None:
        """End the segment's span."""
        self._end_run(run)

    def _end_run(self, run: Run) -> None:
        open_run = self._runs.pop(id(run), None)
        if open_run is None:
            return
        detach(open_run.token)
        span = open_run.span
        span.set_attribute(names.STATUS, run.status.value)
        span.set_attribute(names.FINAL_STATE, state_name(run.state))
        span.set_attribute(names.STEPS, run.steps)
        if run.status.finished:  # a parked or interrupted run has no result yet
            span.set_attribute(names.RESULT, result_of(run.error))
        if run.error is not None:
            span.set_attribute(names.ERROR_TYPE, error_type(run.error))
            if run.status is not RunStatus.INTERRUPTED:
                span.set_status(StatusCode.ERROR, run.kernel.limits.cut(safe_str(run.error)))
        span.end(_now(run))

    # steps

    @hookimpl(tryfirst=True)
    def cano_step_started(self, step: Step) -> None:
        """Start the spans of a step and of its first attempt."""
        if not self._steps:
            return
        run, state = step.run, state_name(step.state)
        now = _now(run)
        attributes: dict[str, Any] = {
            WORKFLOW: run.workflow,
            RUN_ID: run.run_id,
            TASK: step.task,
            TASK_RUN_ID: step.idempotency_key,
            STATE: state,
            SEQ: step.seq,
        }
        if (branch := step.branch) is None:
            name = f"{STEP} {state}"
        else:
            name = f"{BRANCH} {step.task}"
            attributes[BRANCH_NAME] = branch
        span = self._tracer.start_span(name, attributes=attributes, start_time=now)
        self._open[id(step)] = open_step = _OpenStep(span, trace.set_span_in_context(span))
        if self._attempts:
            self._begin_attempt(open_step, step.attempt, now)
        else:
            open_step.token = attach(open_step.context)

    @hookimpl(trylast=True)
    def cano_step_retrying(self, step: Step) -> None:
        """End the attempt's span and start that of the next attempt, at the end of the delay."""
        open_step = self._open.get(id(step))
        if open_step is None or open_step.attempt is None:
            return
        detach(open_step.token)
        now, delay = _now(step.run), step.delay or 0.0
        open_step.attempt.set_attribute(names.DELAY, delay)
        self._end_attempt(open_step, step, now, step.error, step.error)
        self._begin_attempt(open_step, step.attempt + 1, now + int(delay * 1e9))

    @hookimpl(optionalhook=True, tryfirst=True)
    def cano_phase_started(self, step: Step) -> None:
        """Start the span of a node's phase and end that of the phase before.

        That phase succeeded, unless both are `exec`: then it failed, and this one is `exec_fallback`.
        """
        open_step = self._open.get(id(step))
        if open_step is None or open_step.attempt is None or step.phase is None:
            return
        now, name = _now(step.run), step.phase
        detach(open_step.token)
        if open_step.phase is not None:
            fallback = open_step.phase_name == name
            open_step.phase.set_attribute(names.TASK_RESULT, names.FAILURE if fallback else names.SUCCESS)
            open_step.phase.end(now)
            name = names.FALLBACK if fallback else name
        context = trace.set_span_in_context(open_step.attempt, open_step.context)
        open_step.phase_name = step.phase
        open_step.phase = self._tracer.start_span(name, context, start_time=now)
        open_step.token = attach(trace.set_span_in_context(open_step.phase, context))

    @hookimpl(trylast=True)
    def cano_step_finished(self, step: Step) -> None:
        """End the spans of the step and its attempt."""
        open_step = self._open.pop(id(step), None)
        if open_step is not None:
            if step.branch is None:
                open_step.span.set_attribute(NEXT_STATE, state_name(step.next_state))
            self._end_step(open_step, step, None)

    @hookimpl(trylast=True)
    def cano_step_failed(self, step: Step) -> None:
        """End the spans of the step and its attempt with the error."""
        open_step = self._open.pop(id(step), None)
        if open_step is not None:
            self._end_step(open_step, step, step.error)

    @hookimpl(optionalhook=True)
    def cano_send_context(self, step: Step) -> Mapping[str, str]:
        """Send the span that is current in the step, and the baggage, to the process that executes a call."""
        from cano_otel.calls import sent  # late: most kernels have no executor

        return sent()

    # shared by the hooks

    def _begin_attempt(self, open_step: _OpenStep, number: int, at: int) -> None:
        open_step.attempt = attempt = self._tracer.start_span(
            ATTEMPT, open_step.context, attributes={NUMBER: number}, start_time=at
        )
        open_step.token = attach(trace.set_span_in_context(attempt, open_step.context))

    def _end_attempt(
        self, open_step: _OpenStep, step: Step, now: int, error: BaseException | None, raised: BaseException | None
    ) -> None:
        """End an attempt's span; `error` is why it ended, `raised` the exception of its task."""
        attempt = open_step.attempt
        assert attempt is not None
        if open_step.phase is not None:
            _set_result(open_step.phase, error, step)
            open_step.phase.end(now)
            open_step.phase = None
        if error is not None and step.phase is not None:
            attempt.set_attribute(names.PHASE, step.phase)
        _set_result(attempt, error, step, raised)
        attempt.end(now)
        open_step.attempt = None

    def _end_step(self, open_step: _OpenStep, step: Step, error: BaseException | None) -> None:
        detach(open_step.token)
        now, span = _now(step.run), open_step.span
        raised = None
        if error is not None:
            raised = error.__cause__ if isinstance(error, TaskError) and error.__cause__ is not None else error
        delayed = step.delay is not None  # stopped during a retry delay: the next attempt's span is dropped
        if open_step.attempt is not None and not delayed:
            self._end_attempt(open_step, step, now, error, raised)
            raised = None
        _set_result(span, error, step, None if delayed else raised)
        span.end(now)


def _set_result(span: Span, error: BaseException | None, step: Step, raised: BaseException | None = None) -> None:
    """Set a span's result. The exception is recorded once, on the span in which it was raised."""
    if error is None:
        span.set_attribute(TASK_RESULT, SUCCESS)
        return
    span.set_attribute(TASK_RESULT, result_of(error))
    span.set_attribute(names.ERROR_TYPE, error_type(error))
    if step.branch is not None and isinstance(error, CANCELLATIONS):
        return  # the join cancelled the branch because its split is decided: not an error
    cut = step.run.kernel.limits.cut
    span.set_status(StatusCode.ERROR, cut(safe_str(error)))
    if raised is not None and not isinstance(raised, CANCELLATIONS) and span.is_recording():
        message, attributes = safe_str(raised), {}
        if (short := cut(message)) != message:  # the stack trace would contain all of it
            frames = "".join(traceback.format_tb(raised.__traceback__))
            attributes = {"exception.message": short, "exception.stacktrace": frames + short}
        try:
            span.record_exception(raised, attributes)
        except Exception:  # noqa: BLE001  # OpenTelemetry calls the exception's own code, which may raise anything
            frames = "".join(traceback.format_tb(raised.__traceback__))
            attributes = {"exception.type": error_type(raised), "exception.stacktrace": frames + short, **attributes}
            span.record_exception(Exception(short), attributes)


def _now(run: Run) -> int:
    """Return the kernel clock's time in nanoseconds since the Unix epoch."""
    return int(run.kernel.clock.time() * 1e9)
