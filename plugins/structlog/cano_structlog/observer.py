"""`RunLog`: an observer that logs one event per lifecycle hook and binds the run's context while tasks run."""

from __future__ import annotations

import time
import zlib
from collections.abc import Mapping
from contextvars import ContextVar
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeAlias

from cano import RunStatus, Step, TaskError, hookimpl
from cano.safe_text import safe_str

from cano_structlog.bound import Tokens, reset, structlog_variables
from cano_structlog.settings import LogSettings
from cano_structlog.setup import configure
from cano_structlog.traces import trace_ids

if TYPE_CHECKING:
    from cano import Kernel, Run

RUN_KEYS = ("run_id", "workflow", "version")
STEP_KEYS = ("state", "seq", "attempt", "branch")


class _OpenRun:
    """A run that this kernel is executing: its logger, whether its steps are logged, and the tokens to reset."""

    __slots__ = ("log", "sampled", "started_at", "tokens")

    def __init__(self, log: Any, sampled: bool, tokens: Tokens) -> None:
        self.log = log
        self.sampled = sampled
        self.tokens = tokens
        self.started_at = time.perf_counter()


_OpenStep: TypeAlias = tuple[dict[str, Any], Tokens, float]
"""A running step: its context (state, seq, attempt, branch), the tokens to reset, and its start time."""


class RunLog:
    """A plugin that logs runs with structlog and binds their context while their tasks run.

    Kernels load it if cano-structlog is installed, with settings from the environment. For other settings:
    `Kernel(plugins=[RunLog(LogSettings(…))], block=["structlog"])`.

    The plugin passes the context to its own lines as keys. So they carry it even if the application's configuration
    has no `merge_contextvars`, and each costs no more than a hand-written line.

    Args:
        settings: by default read from the environment.
        logger: the structlog logger to use, by default `structlog.get_logger("cano")`.
    """

    CANO_API_VERSION = 2

    def __init__(self, settings: LogSettings | None = None, *, logger: Any = None) -> None:
        self._settings = LogSettings.from_environment() if settings is None else settings
        levels = {event: "" if level == "off" else level for event, level in self._settings.levels.items()}
        self._levels: Mapping[str, str] = levels
        self._step_started = levels["cano.step.started"]
        self._step_finished = levels["cano.step.finished"]
        self._committed = levels["cano.transition.committed"]
        self._custom_logger = logger
        self._logger: Any = logger
        self._run_variables: tuple[ContextVar[Any], ...] = ()
        self._step_variables: tuple[ContextVar[Any], ...] = ()
        # by `id()` of the run or step, which lives from its `started` hook to `finished`, `parked` or `failed`
        self._runs: dict[int, _OpenRun] = {}
        self._steps: dict[int, _OpenStep] = {}

    @hookimpl
    def cano_kernel_started(self, kernel: Kernel) -> None:
        """Import structlog, and configure it unless the application has done so."""
        import structlog

        configure(self._settings)
        self._run_variables = structlog_variables(RUN_KEYS)
        self._step_variables = structlog_variables(STEP_KEYS)
        self._state, self._seq, self._attempt, self._branch = self._step_variables
        if self._custom_logger is None:
            self._logger = structlog.get_logger("cano")

    # runs

    @hookimpl
    def cano_run_started(self, run: Run) -> None:
        """Bind the run's context and log the event."""
        values = (run.run_id, run.workflow, run.version)
        tokens = [variable.set(value) for variable, value in zip(self._run_variables, values, strict=True)]
        # unbind the keys of the step in which it was started, if any: they belong to another run
        tokens += [variable.set(...) for variable in self._step_variables if variable.get() is not ...]
        log = self._logger.bind(**dict(zip(RUN_KEYS, values, strict=True)))
        open_run = self._runs[id(run)] = _OpenRun(log, self._sampled(run.run_id), tokens)
        extra = {"resumed": True} if run.resumed else {}
        if run.parent_id is not None:
            extra["parent_id"] = run.parent_id  # type: ignore[assignment]
        self._log(open_run, "cano.run.started", state=_name(run.state), **extra)

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
                status=run.status.value,
                state=_name(run.state),
                seq=run.steps,
                duration_ms=_milliseconds(open_run.started_at),
                **self._error(run.error),
                **self._data(run),
            )
        finally:
            reset(open_run.tokens)

    # steps

    @hookimpl
    def cano_step_started(self, step: Step) -> None:
        """Log the event and bind the step's context."""
        keys = {"state": _name(step.state), "seq": step.seq, "attempt": step.attempt}
        if (branch := step.branch) is not None:
            keys["branch"] = branch
        try:
            open_run = self._runs[id(step.run)]
            if self._step_started and open_run.sampled:
                line = keys | ids if (ids := trace_ids()) else keys
                getattr(open_run.log, self._step_started)("cano.step.started", **line)
        finally:  # if logging fails, the task's own lines still carry the context
            tokens = [self._state.set(keys["state"]), self._seq.set(keys["seq"]), self._attempt.set(keys["attempt"])]
            if branch is not None:
                tokens.append(self._branch.set(branch))
            self._steps[id(step)] = (keys, tokens, time.perf_counter())

    @hookimpl
    def cano_step_retrying(self, step: Step) -> None:
        """Log the event and bind the number of the next attempt."""
        keys = self._steps[id(step)][0]
        try:
            self._log(
                self._runs[id(step.run)], "cano.step.retrying", **keys, delay_s=step.delay, **self._error(step.error)
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
            line["next_state"] = _name(step.next_state)
            line["duration_ms"] = duration
            line.update(trace_ids())
            getattr(open_run.log, self._step_finished)("cano.step.finished", **line)

    @hookimpl
    def cano_step_failed(self, step: Step) -> None:
        """Unbind the step's context and log the event."""
        line, tokens, began = self._steps.pop(id(step))
        duration = _milliseconds(began)
        reset(tokens)
        self._log(self._runs[id(step.run)], "cano.step.failed", **line, duration_ms=duration, **self._error(step.error))

    @hookimpl
    def cano_transition_committed(self, step: Step) -> None:
        """Log the event."""
        if self._committed and (open_run := self._runs[id(step.run)]).sampled:
            getattr(open_run.log, self._committed)(
                "cano.transition.committed",
                state=_name(step.state),
                seq=step.seq,
                attempt=step.attempt,
                next_state=_name(step.next_state),
                **trace_ids(),
            )

    # shared by the hooks

    def _log(self, open_run: _OpenRun, event: str, **values: Any) -> None:
        if level := self._levels[event]:
            getattr(open_run.log, level)(event, **values, **trace_ids())

    def _sampled(self, run_id: str) -> bool:
        share = self._settings.sample_steps
        # by a hash of the id, so that all processes that execute parts of the run make the same choice
        return share >= 1 or zlib.crc32(run_id.encode()) < share * 2**32

    def _data(self, run: Run) -> dict[str, Any]:
        store = run.store
        if not self._settings.data or not hasattr(store, "__contains__"):
            return {}
        found = {key: store[key] for key in self._settings.data if key in store}
        return {"data": self._settings.redacted(found)}

    def _error(self, error: BaseException | None) -> dict[str, Any]:
        """Return the error as text and the class name of the exception that the user's code raised."""
        if error is None:
            return {}
        cause = error.__cause__ if isinstance(error, TaskError) and error.__cause__ is not None else error
        return {"error": self._settings.redacted(safe_str(error)), "error_type": type(cause).__name__}


def _milliseconds(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 3)


def _name(state: Any) -> Any:
    # `_name_` equals an Enum member's `name` and is several times as fast
    return state._name_ if isinstance(state, Enum) else getattr(state, "name", state)
