"""`FailureLines`: the observer of programs that have asked for no lines. It only listens to what goes wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cano import RunStatus, hookimpl

from cano_structlog.fields import end_event, end_of, error_of, late_context, run_context, step_context
from cano_structlog.settings import LogSettings
from cano_structlog.traces import trace_ids

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cano import LateRun, Run, Step

_FAILED = RunStatus.FAILED  # to look it up for each run would take longer than the rest


class FailureLines:
    """Logs retries and failures. It imports structlog for its first line, measures nothing, and binds nothing.

    Args:
        settings: how lines are written.
        logger: the structlog logger to use, or None.
    """

    def __init__(self, settings: LogSettings, logger: Any) -> None:
        self._settings = settings
        self._logger = logger

    @hookimpl
    def cano_step_retrying(self, step: Step) -> None:
        """Log the event."""
        self._log(step.run, "cano.step.retrying", **step_context(step), delay_s=step.delay, **self._error(step))

    @hookimpl
    def cano_step_failed(self, step: Step) -> None:
        """Log the event, unless the step was cancelled."""
        self._log(step.run, end_event(step), **step_context(step), **self._error(step))

    @hookimpl
    def cano_run_late(self, late: LateRun) -> bool:
        """Log the event."""
        self._write("cano.run.late", late_context(late))
        return True

    @hookimpl
    def cano_run_finished(self, run: Run) -> None:
        """Log the event if the run failed."""
        if run.status is _FAILED:
            self._log(run, "cano.run.failed", **end_of(run, self._settings))

    def _error(self, step: Step) -> dict[str, Any]:
        return error_of(step.error, self._settings)

    def _log(self, run: Run, event: str, **values: Any) -> None:
        self._write(event, run_context(run) | values)

    def _write(self, event: str, values: Mapping[str, Any]) -> None:
        if level := self._settings.level_of(event):
            from cano_structlog.logger import logger_for  # late: it imports structlog

            log = self._logger or logger_for(self._settings)
            getattr(log, level)(event, **values, **trace_ids())
