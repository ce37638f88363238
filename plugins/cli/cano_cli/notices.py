"""Printing warnings about plugins and log records on stderr."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from cano import PluginWarning

from cano_cli.errors import one_line
from cano_cli.safe_lines import lines


class Notices:
    """The warnings on stderr. Each is printed once, even if several kernels emit it."""

    def __init__(self) -> None:
        self._shown: set[str] = set()

    def show(self, message: str) -> None:
        """Print `message` as one line on stderr, unless it was printed before."""
        self.show_lines(" ".join(message.split()))

    def show_lines(self, message: str) -> None:
        """Print `message` on stderr, unless it was printed before. Its further lines are indented."""
        text = lines(message, "  ")
        if text not in self._shown:
            self._shown.add(text)
            click.echo(f"{click.style('Warning:', fg='yellow')} {text}", err=True)

    @contextmanager
    def showing_warnings(self) -> Iterator[None]:
        """Print kernels' plugin warnings and, if the program has not configured logging, their log records."""
        handler, log = _Handler(self.show_lines), logging.getLogger("cano")
        with warnings.catch_warnings():
            default = warnings.showwarning

            def showwarning(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
                if issubclass(category, PluginWarning):
                    self.show(str(message))
                else:
                    default(message, category, *rest, **more)

            warnings.simplefilter("always", PluginWarning)
            warnings.showwarning = showwarning
            log.addHandler(handler)
            try:
                yield
            finally:
                log.removeHandler(handler)


class _Handler(logging.Handler):
    """A replacement for logging's last-resort handler, which would print whole tracebacks."""

    def __init__(self, show: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._show = show

    def emit(self, record: logging.LogRecord) -> None:
        """Print `record`, unless the root logger has a handler, which then reports it."""
        if logging.getLogger().handlers:
            return
        error = record.exc_info[1] if record.exc_info else None
        self._show(record.getMessage() + ("" if error is None else f": {one_line(error)}"))
