"""Structured logs of Cano's runs."""

from cano_structlog.events import EVENTS
from cano_structlog.observer import RunLog
from cano_structlog.settings import LogSettings
from cano_structlog.stdlib import ContextFilter
from cano_structlog.traces import add_trace_ids

__all__ = [
    "ContextFilter",
    "EVENTS",
    "LogSettings",
    "RunLog",
    "add_trace_ids",
]
