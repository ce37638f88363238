"""Errors that the command reports in a few lines, and its exit codes."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import click
from cano import CanoError, ValidationError, VersionMismatchError
from cano.safe_text import error_text, safe_str

from cano_cli.safe_lines import line, lines

FAILED = 1
USAGE_ERROR = 2
STOPPED = 130  # as shells report a program that SIGINT ended


class Failed(click.ClickException):
    """An error with exit code 1. No character of its message is interpreted by a terminal, but its line breaks."""

    def format_message(self) -> str:
        """Return the message as it is printed."""
        return lines(self.message)


class CliError(Failed):
    """A usage error: a wrong argument, workflow definition or configuration. Exit code 2.

    The message says what is wrong, where, and what to do. `__cause__` is the original error.
    """

    exit_code = USAGE_ERROR


def usage_error(error: CanoError) -> CliError:
    """Convert an error of the kernel to a usage error that includes its notes."""
    notes = [f"  {line(note)}" for note in getattr(error, "__notes__", ())]
    from cano_cli.hints import with_commands  # late: only errors need it

    text = with_commands(safe_str(error))
    # only these errors have lines of their own; any other line break comes from an id or a value
    has_lines = isinstance(error, ValidationError | VersionMismatchError)
    return CliError("\n".join([text if has_lines else line(text), *notes]))


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
    """Print `error` with its traceback on stderr, indented, so that no line of a message looks like one of ours."""
    click.echo(lines("".join(traceback.format_exception(error)).rstrip(), "  "), err=True)


def one_line(error: BaseException) -> str:
    """Return the class and the message of `error` without line breaks."""
    return " ".join(error_text(error).split())
