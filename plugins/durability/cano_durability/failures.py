"""Converts errors of runs to values for their records and back; makes the error of a corrupt record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cano
from cano import (
    CanoError,
    Run,
    RunCancelledError,
    RunRecord,
    RunStatus,
    SerializationError,
    TaskError,
    WorkflowError,
    state_name,
)
from cano.engine.ports import error_text, raised_at, rendered, safe_str

from cano_durability.keys import TRACEBACK


def described(run: Run, error: BaseException) -> dict[str, Any]:
    """Return an error of `run` as its record keeps it."""
    cause, ours, cut = error.__cause__, isinstance(error, CanoError), run.kernel.limits.cut
    more = {name: getattr(error, name) for name in ("timeout", "kills") if hasattr(error, name)}
    if (place := raised_at(error)) is not None:
        more["place"] = cut(place)
    return {
        "type": type(error).__name__ if ours else "TaskError",
        "message": cut(safe_str(error) if ours else f"task {run.step.task!r} failed: {error_text(error)}"),
        "cause": None if cause is None else cut(error_text(cause)),
        "state": state_name(run.step.state),
        "attempt": run.step.attempt,
        **more,
    }


def traced(run: Run, error: BaseException) -> str:
    """Return the traceback of an error of `run` as the store keeps it. It is not part of the record, which lists read.

    As a value of the run's, it passes through the layers of the store's codec.
    """
    return run.kernel.limits.cut(rendered(error))


def cancelled_child(record: RunRecord) -> dict[str, Any] | None:
    """Return what the record of a child keeps that no process executes, and that is cancelled by itself."""
    if record.parent is None:
        return None
    message = f"run {record.run_id} was cancelled"
    return {"type": RunCancelledError.__name__, "message": message, "cause": None, "state": record.state, "attempt": 1}


def ended_with_parent(record: RunRecord) -> bool:
    """Return whether a run was cancelled with its parent. A child that was cancelled by itself has its error."""
    return record.status is RunStatus.CANCELLED and record.parent is not None and record.error is None


def error_of(record: RunRecord, traceback: Any) -> WorkflowError | None:
    """Return the error that a run ended with, or None."""
    if record.status is RunStatus.CANCELLED:
        return RunCancelledError(
            f"run {record.run_id} was cancelled", with_parent=ended_with_parent(record), run_id=record.run_id,
            workflow=record.workflow,
        )  # fmt: skip
    if record.status is not RunStatus.FAILED:
        return None
    return stored_error(record, {**(record.error or {}), TRACEBACK: traceback})


def stored_error(record: RunRecord, stored: Mapping[str, Any]) -> WorkflowError:
    """Return an error of a run, restored from its record."""
    kind = getattr(cano, str(stored.get("type")), TaskError)
    if not (isinstance(kind, type) and issubclass(kind, WorkflowError)):
        kind = TaskError
    error = kind(
        str(stored.get("message", "the run failed")), run_id=record.run_id, workflow=record.workflow,
        state=stored.get("state"), attempt=stored.get("attempt"),
    )  # fmt: skip
    for name in ("timeout", "kills"):
        if hasattr(error, name):
            setattr(error, name, stored.get(name, 0))
    if trace := stored.get(TRACEBACK):
        error.traceback = str(trace)
        error.add_note(error.traceback)
    if stored.get("cause"):
        error.add_note(f"caused by {stored['cause']}")
    return error


def is_unreadable(record: RunRecord) -> bool:
    """Return whether a record, from a list, stands for a run that cannot be read, so that its times are not known."""
    return record.error is not None and not record.fingerprint


def corrupt(record: RunRecord, problem: str) -> SerializationError:
    """Return the error of a record that cannot be read."""
    return SerializationError(f"run {record.run_id} is corrupt: {problem}", run_id=record.run_id)
