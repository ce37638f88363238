"""Names of errors and results in spans and metrics."""

from __future__ import annotations

import asyncio

from cano import RunCancelledError, RunInterruptedError, TaskError

from cano_otel.names import CANCELLATION, FAILURE, SUCCESS, TIMEOUT

CANCELLATIONS = (asyncio.CancelledError, RunCancelledError, RunInterruptedError)


def user_error(error: BaseException) -> BaseException:
    """Return the exception that the user's code raised, unwrapped from `TaskError`, also across sub-workflows."""
    while isinstance(error, TaskError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def error_type(error: BaseException) -> str:
    """Return the full name of the class that the user's code raised."""
    kind = type(user_error(error))
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def result_of(error: BaseException | None) -> str:
    """Return the result in the terms of OpenTelemetry's conventions; None means success."""
    if error is None:
        return SUCCESS
    failed = isinstance(error, TaskError)
    error = user_error(error)
    if failed and isinstance(error, asyncio.CancelledError):
        return FAILURE  # nothing cancelled the run: the task awaited something that was cancelled
    if isinstance(error, CANCELLATIONS):
        return CANCELLATION
    return TIMEOUT if isinstance(error, TimeoutError) else FAILURE
