"""The run's context on the lines of the standard library's `logging`."""

from __future__ import annotations

import logging


class ContextFilter(logging.Filter):
    """Adds what is bound in structlog's context (`run_id`, `workflow`, `state`, …) to every record as attributes.

    Add it to a handler: `handler.addFilter(ContextFilter())`; a format may then say `%(run_id)s`. Outside a run the
    attributes of `defaults` are there, empty.

    Args:
        defaults: attributes that every record has.
    """

    def __init__(self, defaults: tuple[str, ...] = ("run_id", "workflow", "state", "seq", "attempt")) -> None:
        super().__init__()
        self._defaults = defaults

    def filter(self, record: logging.LogRecord) -> bool:
        """Complete `record`; every record passes."""
        from structlog.contextvars import get_contextvars

        for name in self._defaults:
            record.__dict__.setdefault(name, "")
        record.__dict__.update(get_contextvars())
        return True
