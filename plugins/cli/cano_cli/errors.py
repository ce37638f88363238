"""Errors that the command reports in a few lines."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import click
from cano import CanoError

FAILED = 1
WRONG = 2
STOPPED = 130  # what a shell says of a program that Ctrl-C ended


class CliError(click.ClickException):
    """What was asked for cannot be done: it is worded, defined or configured wrongly. Exit code 2.

    The message says what is wrong, where, and what to do. The error that it comes from is its `__cause__`.
    """

    exit_code = WRONG


def refused(error: CanoError) -> CliError:
    """`error` of the engine, with the notes that say where, as what was asked for wrongly."""
    notes = [f"  {note}" for note in getattr(error, "__notes__", ())]
    return CliError("\n".join([str(error), *notes]))


@contextmanager
def tracebacks(wanted: bool) -> Iterator[None]:
    """Print the whole traceback of what a `CliError` comes from, where that is `wanted`."""
    try:
        yield
    except CliError as error:
        if wanted and error.__cause__ is not None:
            print_traceback(error.__cause__)
        raise


def print_traceback(error: BaseException) -> None:
    """Print all that is known of `error` on stderr."""
    click.echo("".join(traceback.format_exception(error)), nl=False, err=True)


def one_line(error: BaseException) -> str:
    """Class and message of `error`, without line breaks."""
    try:
        text = " ".join(str(error).split())
    except Exception as broken:  # noqa: BLE001  # a user's __str__ may raise
        text = f"<its message cannot be shown: {type(broken).__name__}>"
    name = type(error).__name__
    return f"{name}: {text}" if text else name
