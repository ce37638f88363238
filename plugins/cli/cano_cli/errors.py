"""Errors that the command reports in a few lines, and its exit codes."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import click
from cano import CanoError

FAILED = 1
USAGE_ERROR = 2
STOPPED = 130  # as shells report a program that SIGINT ended


class CliError(click.ClickException):
    """A usage error: a wrong argument, workflow definition or configuration. Exit code 2.

    The message says what is wrong, where, and what to do. `__cause__` is the original error.
    """

    exit_code = USAGE_ERROR


def usage_error(error: CanoError) -> CliError:
    """Convert an error of the kernel to a usage error that includes its notes."""
    notes = [f"  {note}" for note in getattr(error, "__notes__", ())]
    return CliError("\n".join([str(error), *notes]))


@contextmanager
def tracebacks(wanted: bool) -> Iterator[None]:
    """Print the traceback of a `CliError`'s cause, if `wanted`."""
    try:
        yield
    except CliError as error:
        if wanted and error.__cause__ is not None:
            print_traceback(error.__cause__)
        raise


def print_traceback(error: BaseException) -> None:
    """Print `error` with its traceback on stderr."""
    click.echo("".join(traceback.format_exception(error)), nl=False, err=True)


def one_line(error: BaseException) -> str:
    """Return the class and the message of `error` without line breaks."""
    from cano.engine.ports import error_text  # it loads asyncio, which most commands do not need to show their help

    return " ".join(error_text(error).split())
