"""`RunLog`: the plugin. It registers the observers that the settings and the application ask for."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from cano import hookimpl

from cano_structlog.events import EVENTS, FAILURES
from cano_structlog.settings import LogSettings


class RunLog:
    """A plugin that logs runs with structlog and binds their context while their tasks run.

    Kernels load it if cano-structlog is installed, with settings from the environment. For other settings:
    `Kernel(plugins=[RunLog(LogSettings(…))], block=["structlog"])`.

    When a kernel loads its plugins, this one decides what to listen to. If only failures are written, and structlog is
    not imported yet, it binds no context and imports structlog for its first line.

    Args:
        settings: by default read from the environment.
        logger: the structlog logger to use, by default `structlog.get_logger("cano")`.
    """

    CANO_API_VERSION = 2

    def __init__(self, settings: LogSettings | None = None, *, logger: Any = None) -> None:
        self._settings = LogSettings.from_environment() if settings is None else settings
        self._logger = logger

    @hookimpl(optionalhook=True)
    def cano_receive_context(self, context: Mapping[str, str]) -> AbstractContextManager[None] | None:
        """Bind what was bound in the process of the run, in the process of an executor."""
        from cano_structlog.bound import SENT, bound_from_text  # late: only processes of executors receive calls

        return bound_from_text(context[SENT]) if SENT in context else None

    @hookimpl
    def cano_add_hookspecs(self, pm: Any) -> None:
        """Register an observer. By now all plugins are loaded, and no workflow is bound yet."""
        settings, structlog = self._settings, sys.modules.get("structlog")
        configured = self._logger is not None or (structlog is not None and structlog.is_configured())
        if configured and settings.level is None:
            settings = settings.at_level("info")
        written = {event for event in EVENTS if settings.level_of(event)}
        if structlog is not None or written - FAILURES:
            from cano_structlog.lines import RunLines

            pm.register(RunLines(settings, self._logger))
        elif written:
            from cano_structlog.failures import FailureLines

            pm.register(FailureLines(settings, self._logger))
