"""The observer: one event per lifecycle moment, and the run's context for every line that a task writes."""

from __future__ import annotations

import time
import zlib
from typing import Any, NamedTuple

from cano import Kernel, Run, RunStatus, Step, TaskError, hookimpl

from cano_structlog.settings import LogSettings
from cano_structlog.setup import configure
from cano_structlog.traces import trace_ids


class _Begun(NamedTuple):
    """What is to be taken back when a run or a step ends."""

    at: float
    tokens: Any


class RunLog:
    """Logs runs with structlog, and binds their context while their tasks run.

    Installing cano-structlog is enough to have one, set by the environment. For other settings:
    `Kernel(plugins=[RunLog(LogSettings(…))], block=["structlog"])`.

    Args:
        settings: what is logged, and how; by default what the environment says.
        logger: the structlog logger to use; by default `structlog.get_logger("cano")`.
    """

    CANO_API_VERSION = 1

    def __init__(self, settings: LogSettings | None = None, *, logger: Any = None) -> None:
        self._settings = LogSettings.from_environment() if settings is None else settings
        self._given = logger
        self._logger: Any = logger
        self._context: Any = None
        # by the identity of the run or step: each is there from its started to its finished or failed
        self._begun: dict[int, _Begun] = {}

    @hookimpl
    def cano_kernel_started(self, kernel: Kernel) -> None:
        """Import structlog, and configure it unless the application has."""
        import structlog

        configure(self._settings)
        self._context = structlog.contextvars
        if self._given is None:
            self._logger = structlog.get_logger("cano")

    # runs

    @hookimpl
    def cano_run_started(self, run: Run) -> None:
        """Bind and log."""
        tokens = self._context.bind_contextvars(run_id=run.run_id, workflow=run.workflow, version=run.version)
        self._begun[id(run)] = _Begun(time.perf_counter(), tokens)
        extra = {"resumed": True} if run.resumed else {}
        if run.parent_id is not None:
            extra["parent_id"] = run.parent_id  # type: ignore[assignment]
        self._log("cano.run.started", state=_name(run.state), **extra)

    @hookimpl
    def cano_run_parked(self, run: Run) -> None:
        """Log and unbind."""
        wait = run.wait
        waits = {} if wait is None else {"signal": wait.signal, "until": wait.until}
        self._log("cano.run.parked", **waits, duration_ms=self._duration(run))
        self._unbind(run)

    @hookimpl
    def cano_run_finished(self, run: Run) -> None:
        """Log and unbind."""
        event = "cano.run.failed" if run.status is RunStatus.FAILED else "cano.run.finished"
        self._log(
            event,
            status=run.status.value,
            state=_name(run.state),
            seq=run.steps,
            duration_ms=self._duration(run),
            **_error(run.error),
            **self._data(run),
        )
        self._unbind(run)

    # steps

    @hookimpl
    def cano_step_started(self, step: Step) -> None:
        """Bind and log."""
        place: dict[str, Any] = {"state": _name(step.state), "seq": step.seq, "attempt": step.attempt}
        if step.branch is not None:
            place["branch"] = step.branch
        self._begun[id(step)] = _Begun(time.perf_counter(), self._context.bind_contextvars(**place))
        if self._sampled(step.run_id):
            self._log("cano.step.started")

    @hookimpl
    def cano_step_retrying(self, step: Step) -> None:
        """Log, and bind the number of the attempt that comes next."""
        self._log("cano.step.retrying", delay_s=step.delay, **_error(step.error))
        self._context.bind_contextvars(attempt=step.attempt + 1)

    @hookimpl
    def cano_step_finished(self, step: Step) -> None:
        """Log and unbind."""
        if self._sampled(step.run_id):
            self._log("cano.step.finished", next_state=_name(step.next_state), duration_ms=self._duration(step))
        self._unbind(step)

    @hookimpl
    def cano_step_failed(self, step: Step) -> None:
        """Log and unbind."""
        self._log("cano.step.failed", duration_ms=self._duration(step), **_error(step.error))
        self._unbind(step)

    @hookimpl
    def cano_transition_committed(self, step: Step) -> None:
        """Log."""
        if self._sampled(step.run_id):
            self._log(
                "cano.transition.committed",
                state=_name(step.state),
                next_state=_name(step.next_state),
                seq=step.seq,
                attempt=step.attempt,
            )

    # what they have in common

    def _log(self, event: str, **values: Any) -> None:
        level = self._settings.levels[event]
        if level != "off":
            getattr(self._logger, level)(event, **values, **trace_ids())

    def _sampled(self, run_id: str) -> bool:
        share = self._settings.sample_steps
        # a hash of the id, so that a run is logged whole or not, in every process that drives a part of it
        return share >= 1 or zlib.crc32(run_id.encode()) < share * 2**32

    def _duration(self, subject: Run | Step) -> float | None:
        begun = self._begun.get(id(subject))
        return None if begun is None else round((time.perf_counter() - begun.at) * 1000, 3)

    def _unbind(self, subject: Run | Step) -> None:
        begun = self._begun.pop(id(subject), None)
        if begun is not None:
            self._context.reset_contextvars(**begun.tokens)

    def _data(self, run: Run) -> dict[str, Any]:
        store = run.store
        if not self._settings.data or not hasattr(store, "__contains__"):
            return {}
        found = {key: store[key] for key in self._settings.data if key in store}
        return {"data": self._settings.redacted(found)}


def _name(state: Any) -> Any:
    return getattr(state, "name", state)


def _error(error: BaseException | None) -> dict[str, Any]:
    """The error as text, and the class of what the user's code raised."""
    if error is None:
        return {}
    cause = error.__cause__ if isinstance(error, TaskError) and error.__cause__ is not None else error
    return {"error": str(error), "error_type": type(cause).__name__}
