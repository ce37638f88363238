"""The parts of a line that several observers write."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

from cano import RunCancelledError, RunInterruptedError, RunStatus, TaskError
from cano.safe_text import safe_str

from cano_structlog.settings import LogSettings

if TYPE_CHECKING:
    from cano import LateRun, Run, Step

RUN_KEYS = ("run_id", "workflow", "version")
STEP_KEYS = ("state", "seq", "attempt", "branch")


def run_context(run: Run) -> dict[str, Any]:
    """Return the run's context."""
    return {"run_id": run.run_id, "workflow": run.workflow, "version": run.version}


def late_context(late: LateRun) -> dict[str, Any]:
    """Return what is late: the run or its visit of the state, and by how many seconds when that was found."""
    return {
        "run_id": late.run_id, "workflow": late.workflow, "state": late.state, "seq": late.seq,
        "late": "step" if late.step else "run", "within_s": late.within, "late_s": round(late.at - late.due, 3),
        "status": late.status.value,
    }  # fmt: skip


def step_context(step: Step) -> dict[str, Any]:
    """Return what the step adds to the run's context."""
    context = {"state": name_of(step.state), "seq": step.seq, "attempt": step.attempt}
    if (branch := step.branch) is not None:
        context["branch"] = branch
    return context


def end_of(run: Run, settings: LogSettings) -> dict[str, Any]:
    """Return what the last line of a run says about it."""
    found = {"status": run.status.value, "state": name_of(run.state), "seq": run.steps, **error_of(run.error, settings)}
    if run.error is not None and run.status is RunStatus.FAILED:
        from cano.tracebacks import rendered  # late: to load plugins needs no source of their errors

        found["traceback"] = settings.redacted(rendered(run.error))
    store = run.store
    if settings.data and hasattr(store, "__contains__"):
        found["data"] = settings.redacted({key: store[key] for key in settings.data if key in store})
    return found


def error_of(error: BaseException | None, settings: LogSettings) -> dict[str, Any]:
    """Return the error as text and the class name of the exception that the user's code raised."""
    if error is None:
        return {}
    cause = error.__cause__ if isinstance(error, TaskError) and error.__cause__ is not None else error
    return {"error": settings.redacted(safe_str(error)), "error_type": type(cause).__name__}


def end_event(step: Step) -> str:
    """Return the event of a step that did not succeed."""
    from asyncio import CancelledError  # late: to load plugins needs no asyncio

    cancelled = isinstance(step.error, CancelledError | RunCancelledError | RunInterruptedError)
    return "cano.step.cancelled" if cancelled else "cano.step.failed"


def name_of(state: Any) -> Any:
    """Return the state's name."""
    # `_name_` equals an Enum member's `name` and is several times as fast
    return state._name_ if isinstance(state, Enum) else getattr(state, "name", state)
