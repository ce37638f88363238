"""The logger that the lines go to."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog
from cano.safe_text import escaped

from cano_structlog.settings import LogSettings
from cano_structlog.traces import add_trace_ids

_Bound: Any = structlog.make_filtering_bound_logger(0)  # the settings decide what is written


def logger_for(settings: LogSettings) -> Any:
    """Return structlog's logger "cano"; if the application has not configured structlog, one of the plugin's own."""
    if structlog.is_configured():
        return structlog.get_logger("cano")
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        add_trace_ids,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    as_text = settings.render == "console" or (settings.render == "auto" and sys.stderr.isatty())
    processors += (
        [_escape, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
        if as_text
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    )
    if settings.stdlib:
        processors.insert(0, structlog.stdlib.filter_by_level)
        logger: Any = logging.getLogger("cano")
        return structlog.wrap_logger(logger, processors=processors, wrapper_class=structlog.stdlib.BoundLogger)
    # made for each run, because the program may replace stderr
    return structlog.wrap_logger(structlog.PrintLogger(sys.stderr), processors=processors, wrapper_class=_Bound)


def _escape(logger: Any, method: str, line: Any) -> Any:
    """Escape texts, which the console renderer prints as they are. It prints other values by their repr."""
    return {key: escaped(value) if isinstance(value, str) else value for key, value in line.items()}
