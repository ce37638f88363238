"""What is told of a run that failed: the error, its root cause, and the place where that was raised."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import click
from cano import (
    CanoError,
    ConflictError,
    Run,
    RunCancelledError,
    RunInterruptedError,
    RunStatus,
    RunTimeoutError,
    StoreUnavailableError,
    Workflow,
    WorkflowError,
    state_name,
)

from cano_cli.errors import one_line
from cano_cli.places import came_through_cano, defined_at, raised_at

TITLES = {
    RunStatus.FAILED: ("Error", "red"),
    RunStatus.CANCELLED: ("Cancelled", "yellow"),
    RunStatus.INTERRUPTED: ("Interrupted", "yellow"),
}


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a run has not reached an exit state here, ready to be shown.

    Attributes:
        error: the error that ended the run.
        message: what it says.
        causes: what it comes from, the root cause last.
        notes: what the root cause's author added to it.
        place: where in the user's code the root cause was raised, or where the task is defined.
        run_id, workflow, state, attempt: which step of which run, as far as known.
        status: how the run stands now.
        stopped: whether it was the user who stopped the command.
        hint: what to do now, in place of asking for the traceback.
    """

    error: BaseException
    message: str
    causes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    place: str | None = None
    run_id: str | None = None
    workflow: str | None = None
    state: str | None = None
    attempt: int | None = None
    status: RunStatus = RunStatus.FAILED
    stopped: bool = False
    hint: str | None = None

    def lines(self) -> Iterator[str]:
        """The failure for people."""
        title, colour = TITLES.get(self.status, ("Stopped", "yellow"))
        yield f"{click.style(f'{title}:', fg=colour)} {_indented(self.message)}"
        for number, cause in enumerate(self.causes):
            yield _field("cause" if number == 0 else "due to", cause)
        for note in self.notes:
            yield _field("note", _indented(note))
        if self.place is not None:
            yield _field("at", self.place)
        if self.workflow is not None:
            yield _field("workflow", self.workflow)
        if self.state is not None:
            yield _field("state", self.state + ("" if self.attempt is None else f", attempt {self.attempt}"))
        if self.run_id is not None:
            yield _field("run", self.run_id)
        if self.hint is not None:
            yield f"  ({self.hint})"

    def as_json(self) -> dict[str, Any]:
        """The failure for programs."""
        return {
            "status": self.status.value,
            "run_id": self.run_id,
            "workflow": self.workflow,
            "state": self.state,
            "attempt": self.attempt,
            "error": {
                "type": type(self.error).__name__,
                "message": self.message,
                "causes": list(self.causes),
                "notes": list(self.notes),
                "place": self.place,
            },
        }


def failure_of(error: BaseException, flow: Workflow[Any], run: Run | None) -> Failure:
    """What is to be told of `error`, which ended a run of `flow`.

    Args:
        error: the error.
        flow: the workflow.
        run: the run, if it has begun.
    """
    chain = list(_chain(error))
    causes = [link for link in chain[1:] if not isinstance(link, asyncio.CancelledError)]
    state = getattr(error, "state", None)
    attempt = getattr(error, "attempt", None)
    if state is None and run is not None:
        state, attempt = run.state, run.step.attempt
    place = next((found for link in reversed(chain) if (found := raised_at(link))), None)
    if place is None and not isinstance(error, RunTimeoutError):  # its time may have been over between two tasks
        place = _task_of(flow, state)
    return Failure(
        error,
        message_of(error),
        causes=tuple(map(one_line, causes)),
        notes=tuple(_notes(causes[-1] if causes else error)),
        place=place,
        run_id=run.run_id if run is not None else getattr(error, "run_id", None),
        workflow=flow.name,
        state=None if state is None else state_name(state),
        attempt=attempt,
        status=_status(error, run),
    )


def _status(error: BaseException, run: Run | None) -> RunStatus:
    """How a run stands that was left with `error`."""
    if isinstance(error, RunCancelledError):
        return RunStatus.CANCELLED
    # the store tells it to somebody else by now, or cannot tell
    lost = run is not None and isinstance(error, ConflictError | StoreUnavailableError)
    return RunStatus.INTERRUPTED if lost or isinstance(error, RunInterruptedError) else RunStatus.FAILED


def _task_of(flow: Workflow[Any], state: Any) -> str | None:
    """Where the task of `state` is defined; an error that comes from a store knows no more than the state's name."""
    for known, registration in flow.tasks.items():
        if state is not None and state in (known, state_name(known)):
            return defined_at(registration.task)
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """`error` and what it comes from, the root cause last."""
    link: BaseException | None = error
    seen: set[int] = set()
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        if isinstance(link, BaseExceptionGroup):
            link = link.exceptions[0]
        elif link.__cause__ is not None or link.__suppress_context__:
            link = link.__cause__
        else:
            link = link.__context__ if _is_telling(link) else None


def _is_telling(error: BaseException) -> bool:
    """Whether what was being handled when `error` was raised is a reason for it.

    For the engine's own errors that is so only where it tells what a run was at when its time was over. An
    exception that a task raised was raised on its own account where the other is of an earlier attempt: then
    that one has come through the engine.
    """
    context = error.__context__
    if isinstance(error, CanoError):
        return isinstance(context, asyncio.CancelledError)
    return context is not None and not came_through_cano(context)


def message_of(error: BaseException) -> str:
    """What `error`, which ended a run, says."""
    if isinstance(error, asyncio.CancelledError):
        return "the run was cancelled from within: a task raised CancelledError, or cancelled the run's own task"
    if isinstance(error, SystemExit):
        return f"a task called sys.exit({error.code!r}), which ends a program, not a run; return an exit state"
    return str(error) if isinstance(error, CanoError) else one_line(error)


def _notes(error: BaseException) -> list[str]:
    """Notes of the user's, and the cause that a store kept; where a WorkflowError was raised is told anyway."""
    notes = [str(note) for note in getattr(error, "__notes__", ())]
    return [note for note in notes if not (isinstance(error, WorkflowError) and note.startswith("at "))]


def _field(name: str, text: str) -> str:
    return f"  {name + ':':<10}{text}"


def _indented(text: str) -> str:
    return text.replace("\n", "\n    ")
