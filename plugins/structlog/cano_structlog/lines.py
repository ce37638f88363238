"""`RunLines`: an observer that logs one event per lifecycle hook and binds the run's context while tasks run."""

from __future__ import annotations

import time
import zlib
from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeAlias

from cano import RunStatus, Step, hookimpl

from cano_structlog.bound import SENT, Tokens, bound_as_text, reset, structlog_variables
from cano_structlog.events import EVENTS
from cano_structlog.fields import (
    RUN_KEYS,
    STEP_KEYS,
    end_event,
    end_of,
    error_of,
    late_context,
    name_of,
    run_context,
    step_context,
)
from cano_structlog.logger import logger_for
from cano_structlog.settings import LogSettings
from cano_structlog.traces import trace_ids

if TYPE_CHECKING:
    from cano import Kernel, LateRun, Run


class _OpenRun:
    """A run that this kernel is executing: its context, whether its steps are logged, and the tokens to reset."""

    __slots__ = ("context", "log", "sampled", "started_at", "tokens")

    def __init__(self, context: dict[str, Any], sampled: bool, tokens: Tokens) -> None:
        self.context = context
        self.log: Any = None  # made for the run's first line
        self.sampled = sampled
        self.tokens = tokens
        self.started_at = time.perf_counter()


_OpenStep: TypeAlias = tuple[dict[str, Any], Tokens, float]
"""A running step: its context (state, seq, attempt, branch), the tokens to reset, and its start time."""


class RunLines:
    """An observer that logs one event per lifecycle hook and binds the run's context while tasks run.

    It passes the context to its own lines as keys. So they carry it even if the application's configuration has no
    `merge_contextvars`, and each costs no more than a hand-written line.

    Args:
        settings: which events are logged, and how.
        logger: the structlog logger to use, or None.
    """

    def __init__(self, settings: LogSettings, logger: Any) -> None:
        self._settings = settings
        self._levels: Mapping[str, str] = {event: settings.level_of(event) for event in EVENTS}
        self._step_started = self._levels["cano.step.started"]
        self._step_finished = self._levels["cano.step.finished"]
        self._committed = self._levels["cano.transition.committed"]
        self._logger: Any = logger
        self._run_variables: tuple[ContextVar[Any], ...] = ()
        self._step_variables: tuple[ContextVar[Any], ...] = ()
        # by `id()` of the run or step, which lives from its `started` hook to `finished`, `parked` or `failed`
        self._runs: dict[int, _OpenRun] = {}
        self._steps: dict[int, _OpenStep] = {}

    @hookimpl
    def cano_kernel_started(self, kernel: Kernel) -> None:
        """Look up structlog's context variables."""
        self._run_variables = structlog_variables(RUN_KEYS)
        self._step_variables = structlog_variables(STEP_KEYS)
        self._state, self._seq, self._attempt, self._branch = self._step_variables

    # runs

    @hookimpl
    def cano_run_started(self, run: Run) -> None:
        """Bind the run's context and log the event."""
        context = run_context(run)
        tokens = [variable.set(value) for variable, value in zip(self._run_variables, context.values(), strict=True)]
        # unbind the keys of the step in which it was started, if any: they belong to another run
        tokens += [variable.set(...) for variable in self._step_variables if variable.get() is not ...]
        open_run = self._runs[id(run)] = _OpenRun(context, self._sampled(run.run_id), tokens)
        extra = {"resumed": True} if run.resumed else {}
        if run.parent_id is not None:
            extra["parent_id"] = run.parent_id  # type: ignore[assignment]
        self._log(open_run, "cano.run.started", state=name_of(run.state), **extra)

    @hookimpl
    def cano_run_parked(self, run: Run) -> None:
        """Log the event and unbind the run's context."""
        open_run, wait = self._runs.pop(id(run)), run.wait
        waits: dict[str, Any] = {} if wait is None else {"signal": wait.signal, "until": wait.until}
        if wait is not None and wait.child is not None:
            waits |= {"signal": None, "child": wait.child}
        try:
            self._log(open_run, "cano.run.parked", **waits, duration_ms=_milliseconds(open_run.started_at))
        finally:
            reset(open_run.tokens)

    @hookimpl
    def cano_run_finished(self, run: Run) -> None:
        """Log the event and unbind the run's context."""
        open_run = self._runs.pop(id(run))
        try:
            self._log(
                open_run,
                "cano.run.failed" if run.status is RunStatus.FAILED else "cano.run.finished",
                duration_ms=_milliseconds(open_run.started_at),
                **end_of(run, self._settings),
            )
        finally:
            reset(open_run.tokens)

    @hookimpl
    def cano_run_late(self, late: LateRun) -> bool:
        """Log the event, also of a run that no process executes."""
        if level := self._levels["cano.run.late"]:
            log = self._logger or logger_for(self._settings)
            getattr(log, level)("cano.run.late", **late_context(late), **trace_ids())
        return True

    # steps

    @hookimpl
    def cano_step_started(self, step: Step) -> None:
        """Log the event and bind the step's context."""
        keys = step_context(step)
        try:
            open_run = self._runs[id(step.run)]
            if self._step_started and open_run.sampled:
                line = keys | ids if (ids := trace_ids()) else keys
                getattr(self._log_of(open_run), self._step_started)("cano.step.started", **line)
        finally:  # if logging fails, the task's own lines still carry the context
            tokens = [self._state.set(keys["state"]), self._seq.set(keys["seq"]), self._attempt.set(keys["attempt"])]
            if "branch" in keys:
                tokens.append(self._branch.set(keys["branch"]))
            self._steps[id(step)] = (keys, tokens, time.perf_counter())

    @hookimpl
    def cano_step_retrying(self, step: Step) -> None:
        """Log the event and bind the number of the next attempt."""
        keys = self._steps[id(step)][0]
        try:
            self._log(
                self._runs[id(step.run)],
                "cano.step.retrying",
                **keys,
                delay_s=step.delay,
                **error_of(step.error, self._settings),
            )
        finally:
            keys["attempt"] = step.attempt + 1
            self._attempt.set(keys["attempt"])

    @hookimpl
    def cano_step_finished(self, step: Step) -> None:
        """Unbind the step's context and log the event."""
        line, tokens, began = self._steps.pop(id(step))
        duration = _milliseconds(began)
        reset(tokens)
        if self._step_finished and (open_run := self._runs[id(step.run)]).sampled:
            line["next_state"] = name_of(step.next_state)
            line["duration_ms"] = duration
            line.update(trace_ids())
            getattr(self._log_of(open_run), self._step_finished)("cano.step.finished", **line)

    @hookimpl
    def cano_step_failed(self, step: Step) -> None:
        """Unbind the step's context and log the event."""
        line, tokens, began = self._steps.pop(id(step))
        duration = _milliseconds(began)
        reset(tokens)
        self._log(
            self._runs[id(step.run)],
            end_event(step),
            **line,
            duration_ms=duration,
            **error_of(step.error, self._settings),
        )

    @hookimpl
    def cano_transition_committed(self, step: Step) -> None:
        """Log the event."""
        if self._committed and (open_run := self._runs[id(step.run)]).sampled:
            getattr(self._log_of(open_run), self._committed)(
                "cano.transition.committed",
                state=name_of(step.state),
                seq=step.seq,
                attempt=step.attempt,
                next_state=name_of(step.next_state),
                **trace_ids(),
            )

    @hookimpl(optionalhook=True)
    def cano_send_context(self, step: Step) -> Mapping[str, str]:
        """Send what is bound to the process that executes a call."""
        return {SENT: bound_as_text()}

    # shared by the hooks

    def _log(self, open_run: _OpenRun, event: str, **values: Any) -> None:
        if level := self._levels[event]:
            getattr(self._log_of(open_run), level)(event, **values, **trace_ids())

    def _sampled(self, run_id: str) -> bool:
        share = self._settings.sample_steps
        # by a hash of the id, so that all processes that execute parts of the run make the same choice
        return share >= 1 or zlib.crc32(run_id.encode()) < share * 2**32

    def _log_of(self, open_run: _OpenRun) -> Any:
        if open_run.log is None:
            open_run.log = (self._logger or logger_for(self._settings)).bind(**open_run.context)
        return open_run.log


def _milliseconds(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 3)
