"""What an error is called in spans and metrics."""

from __future__ import annotations

import asyncio

from cano import RunCancelledError, RunInterruptedError, TaskError

from cano_otel.names import CANCELLATION, FAILURE, SUCCESS, TIMEOUT

CUT = (asyncio.CancelledError, RunCancelledError, RunInterruptedError)


def origin(error: BaseException) -> BaseException:
    """What the user's code raised, where `error` only wraps it; through sub-workflows too."""
    while isinstance(error, TaskError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def error_type(error: BaseException) -> str:
    """The class of what went wrong, by its full name."""
    kind = type(origin(error))
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def result_of(error: BaseException | None) -> str:
    """How something ended, in the conventions' words."""
    if error is None:
        return SUCCESS
    error = origin(error)
    if isinstance(error, CUT):
        return CANCELLATION
    return TIMEOUT if isinstance(error, TimeoutError) else FAILURE
