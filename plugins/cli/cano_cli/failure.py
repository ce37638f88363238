"""Describing a failed run: its error, the root cause, and where that was raised."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import click
from cano import (
    CanoError,
    Run,
    RunCancelledError,
    RunInterruptedError,
    RunStatus,
    RunTimeoutError,
    SubWorkflow,
    TransientStoreError,
    Workflow,
    WorkflowError,
    state_name,
)
from cano.safe_text import safe_repr, safe_str

from cano_cli.errors import one_line
from cano_cli.hints import word
from cano_cli.places import defined_at, propagated_through_cano, raised_at
from cano_cli.safe_lines import line, lines

TITLES = {
    RunStatus.FAILED: ("Error", "red"),
    RunStatus.CANCELLED: ("Cancelled", "yellow"),
    RunStatus.INTERRUPTED: ("Interrupted", "yellow"),
}


@dataclass(frozen=True, slots=True)
class Failure:
    """The reason why a run did not reach an exit state in this process.

    Attributes:
        error: the error that ended the run.
        message: its message.
        causes: its causes, the root cause last.
        notes: the notes that user code added to the root cause.
        place: the location in the user's code that raised the root cause, or the definition of the task.
        run_id, workflow, state, attempt: the failed step, as far as known.
        status: the run's present status.
        stopped: whether the user stopped the command.
        hint: what the user can do next.
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
        """Yield the lines that describe the failure to people."""
        title, colour = TITLES.get(self.status, ("Stopped", "yellow"))
        yield f"{click.style(f'{title}:', fg=colour)} {lines(self.message, '    ')}"
        for number, cause in enumerate(self.causes):
            yield _field("cause" if number == 0 else "due to", cause)
        for note in self.notes:
            yield _field("note", note)
        if self.place is not None:
            yield _field("at", self.place)
        if self.workflow is not None:
            yield _field("workflow", self.workflow)
        if self.state is not None:
            yield _field("state", self.state + ("" if self.attempt is None else f", attempt {self.attempt}"))
        if self.run_id is not None:
            yield _field("run", word(self.run_id))
        if self.hint is not None:
            yield f"  ({line(self.hint)})"

    def as_json(self) -> dict[str, Any]:
        """Return the failure as JSON."""
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
    """Describe `error`, which ended a run of `flow`.

    Args:
        error: the error.
        flow: the workflow.
        run: the run, if it began.
    """
    chain = list(_chain(error))
    causes = [link for link in chain[1:] if not isinstance(link, asyncio.CancelledError)]
    state = getattr(error, "state", None)
    attempt = getattr(error, "attempt", None)
    if state is None and run is not None:
        state, attempt = run.state, run.step.attempt
    place = next((found for link in reversed(chain) if (found := raised_at(link))), None)
    if place is None and not isinstance(error, RunTimeoutError):  # the timeout may have passed between two tasks
        steps = [(getattr(link, "workflow", None), getattr(link, "state", None)) for link in reversed(chain)]
        flows = _with_children(flow)
        places = [_task_in(each, inner) for name, inner in steps for each in flows if each.name == name]
        place = next(filter(None, [*places, _task_in(flow, state)]), None)
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
    """Return the status of a run after `error`."""
    if isinstance(error, RunCancelledError):
        return RunStatus.CANCELLED
    # another process holds the run by now, or the store is unavailable
    lost = run is not None and isinstance(error, TransientStoreError)
    return RunStatus.INTERRUPTED if lost or isinstance(error, RunInterruptedError) else RunStatus.FAILED


def _with_children(flow: Workflow[Any]) -> list[Workflow[Any]]:
    """Return `flow` and the workflows of its sub-workflows, at every depth."""
    found = [flow]
    for each in found:
        children = [known.task.flow for known in each.tasks.values() if isinstance(known.task, SubWorkflow)]
        found += [child for child in children if child not in found]
    return found


def _task_in(flow: Workflow[Any], state: Any) -> str | None:
    """Return where the task of `state` is defined. An error loaded from a store gives only the state's name."""
    for known, registration in flow.tasks.items():
        if state is not None and state in (known, state_name(known)):
            return defined_at(registration.task)
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield `error` and its causes, the root cause last."""
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
            link = link.__context__ if _context_is_cause(link) else None


def _context_is_cause(error: BaseException) -> bool:
    """Return whether the implicit `__context__` of `error` is a cause of it.

    For an error of the kernel, only the cancellation after a timeout is: it shows what the run was doing. For an
    error of a task, a context that propagated through the kernel is not: it belongs to an earlier attempt.
    """
    context = error.__context__
    if isinstance(error, CanoError):
        return isinstance(context, asyncio.CancelledError)
    return context is not None and not propagated_through_cano(context)


def message_of(error: BaseException) -> str:
    """Return the message for `error`, which ended a run."""
    if isinstance(error, asyncio.CancelledError):
        return "a task of the run raised CancelledError, or cancelled the run's asyncio task"
    if isinstance(error, SystemExit):
        called = f"a task called sys.exit({safe_repr(error.code)})"
        return f"{called}, which ends the program; return an exit state to end the run"
    return safe_str(error) if isinstance(error, CanoError) else one_line(error)


def _notes(error: BaseException) -> list[str]:
    """Return the notes of `error`, but not a WorkflowError's own ones of its location and its traceback."""
    notes = [safe_str(note) for note in getattr(error, "__notes__", ())]
    if isinstance(error, WorkflowError):
        notes = [note for note in notes if not note.startswith("at ") and note != error.traceback]
    return notes


def _field(name: str, text: str) -> str:
    return f"  {name + ':':<10}{lines(text, '    ')}"
