"""The configuration of structlog, used if the application has made none."""

from __future__ import annotations

import logging
import sys
from typing import Any

from cano.safe_text import escaped

from cano_structlog.settings import LogSettings
from cano_structlog.traces import add_trace_ids


def configure(settings: LogSettings) -> None:
    """Configure structlog by `settings`. Do nothing if the application has configured it."""
    import structlog

    if structlog.is_configured():
        return
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
    factory: Any = structlog.PrintLoggerFactory(sys.stderr)
    wrapper: Any = structlog.make_filtering_bound_logger(getattr(logging, settings.level.upper()))
    if settings.stdlib:
        factory, wrapper = structlog.stdlib.LoggerFactory(), structlog.stdlib.BoundLogger
        processors.insert(1, structlog.stdlib.filter_by_level)
    structlog.configure(processors=processors, wrapper_class=wrapper, logger_factory=factory)


def _escape(logger: Any, method: str, line: Any) -> Any:
    """Escape texts, which the console renderer prints as they are. It prints other values by their repr."""
    return {key: escaped(value) if isinstance(value, str) else value for key, value in line.items()}
