"""`ContextFilter`: the run's context on records of the standard library's `logging`."""

from __future__ import annotations

import logging


class ContextFilter(logging.Filter):
    """A filter that adds structlog's context (`run_id`, `workflow`, `state`, …) to every record as attributes.

    Add it to a handler, `handler.addFilter(ContextFilter())`, and use `%(run_id)s` in the handler's format.

    Args:
        defaults: attributes that every record has; outside a run they are empty.
    """

    def __init__(self, defaults: tuple[str, ...] = ("run_id", "workflow", "state", "seq", "attempt")) -> None:
        import structlog.contextvars  # so that kernels bind the context

        self._context = structlog.contextvars.get_contextvars
        super().__init__()
        self._defaults = defaults

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the attributes to `record`. Return True, so that every record passes."""
        for name in self._defaults:
            record.__dict__.setdefault(name, "")
        record.__dict__.update(self._context())
        return True
