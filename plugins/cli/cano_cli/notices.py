"""Warnings about plugins, as one line each on stderr."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from cano import PluginWarning

from cano_cli.errors import one_line


class Notices:
    """Shows each notice once, however many kernels have reason for it."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def show(self, message: str) -> None:
        """Print `message` as one line on stderr, unless that was done."""
        line = " ".join(message.split())
        if line not in self._seen:
            self._seen.add(line)
            click.echo(f"{click.style('Warning:', fg='yellow')} {line}", err=True)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Show the kernel's plugin warnings, and what it logs where the program has set up no logging."""
        handler, log = _Handler(self.show), logging.getLogger("cano")
        with warnings.catch_warnings():
            otherwise = warnings.showwarning

            def showwarning(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
                if issubclass(category, PluginWarning):
                    self.show(str(message))
                else:
                    otherwise(message, category, *rest, **more)

            warnings.simplefilter("always", PluginWarning)
            warnings.showwarning = showwarning
            log.addHandler(handler)
            try:
                yield
            finally:
                log.removeHandler(handler)


class _Handler(logging.Handler):
    """Takes the place of Python's last resort, which would print a page of traceback."""

    def __init__(self, show: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._show = show

    def emit(self, record: logging.LogRecord) -> None:
        """Show `record`, unless somebody else does."""
        if logging.getLogger().handlers:
            return
        error = record.exc_info[1] if record.exc_info else None
        self._show(record.getMessage() + ("" if error is None else f": {one_line(error)}"))
