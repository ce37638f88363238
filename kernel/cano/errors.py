"""Every error of Cano.

    CanoError
    ├── ConfigurationError (ValueError)        an option or argument is wrong
    ├── ValidationError (ValueError)           a workflow's definition is wrong: every problem at once
    ├── PluginError                            a plugin is broken, foreign, blocked or named twice
    ├── SchedulerError                         a schedule is wrong or unknown
    ├── WorkflowError                          a run went wrong; knows run, workflow, state and attempt
    │   ├── TransitionError                    a task returned something that is no next state
    │   ├── TaskError                          a task raised; the user's exception is the cause
    │   │   ├── NodeError                      the same for a node; knows the phase
    │   │   └── RetryExhaustedError            the last allowed attempt failed; knows how many
    │   ├── StepTimeoutError (TimeoutError)    an attempt or a whole step took too long
    │   ├── RunTimeoutError (TimeoutError)     a whole run took too long
    │   ├── JoinError                          a split's branches did not meet the join's condition
    │   ├── RunCancelledError                  somebody cancelled the run
    │   ├── RunInterruptedError                the kernel closed before the run ended
    │   └── VersionMismatchError               a stored run belongs to another definition
    └── StoreError                             a store refused or failed
        ├── KeyNotFoundError (KeyError)
        ├── TypeMismatchError (TypeError)
        ├── SerializationError (TypeError)     a value cannot be kept, or not be read back
        ├── MergeConflictError                 two branches wrote different values to one key
        ├── ConflictError                      somebody else's commit or lease came first
        ├── RunNotFoundError (LookupError)     the store has no run of that id
        └── StoreUnavailableError              the store cannot be reached

Errors are told apart by class and attributes; messages are for people.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


class CanoError(Exception):
    """The root of all errors that Cano raises."""


class ConfigurationError(CanoError, ValueError):
    """An option or an argument is wrong. The message names it, its value and what is allowed."""


class ValidationError(CanoError, ValueError):
    """A workflow cannot work as it is defined.

    Attributes:
        workflow: name of the workflow.
        problems: every problem found, one sentence each.
    """

    def __init__(self, workflow: str, problems: Iterable[str] = ()) -> None:
        self.workflow = workflow
        self.problems = tuple(problems)
        lines = "".join(f"\n  - {problem}" for problem in self.problems)
        super().__init__(f"workflow {workflow!r} has {len(self.problems)} problem(s):{lines}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.workflow, self.problems), self.__dict__


class PluginError(CanoError):
    """A plugin cannot be used.

    Attributes:
        plugin: its name (that of its entry point), where known.
        distribution: `name version` of the distribution that ships it, where known.
    """

    def __init__(self, message: str, *, plugin: str | None = None, distribution: str | None = None) -> None:
        super().__init__(message)
        self.plugin = plugin
        self.distribution = distribution


class SchedulerError(CanoError):
    """A schedule is wrong, unknown, or asked for something it cannot do."""


class WorkflowError(CanoError):
    """A run went wrong.

    Attributes:
        run_id: the run's id.
        workflow: the workflow's name.
        state: the state whose step failed.
        attempt: which attempt of that step, counted from 1.
    """

    def __init__(
        self,
        message: str,
        *,
        run_id: str | None = None,
        workflow: str | None = None,
        state: Any = None,
        attempt: int | None = None,
    ) -> None:
        super().__init__(message)
        self._locate(run_id, workflow, state, attempt)

    def _locate(self, run_id: str | None, workflow: str | None, state: Any, attempt: int | None) -> None:
        self.run_id = run_id
        self.workflow = workflow
        self.state = state
        self.attempt = attempt
        place = {"run": run_id, "workflow": workflow, "state": state, "attempt": attempt}
        known = [f"{label} {value}" for label, value in place.items() if value is not None]
        if known:
            self.add_note("at " + ", ".join(known))


class TransitionError(WorkflowError):
    """A task returned something that is not a next state of its own.

    Attributes:
        returned: what it returned.
        allowed: the states it may return.
    """

    def __init__(self, message: str, *, returned: Any = None, allowed: Iterable[Any] = (), **place: Any) -> None:
        super().__init__(message, **place)
        self.returned = returned
        self.allowed = tuple(allowed)


class TaskError(WorkflowError):
    """A task raised. The user's own exception is `__cause__`, untouched."""


class NodeError(TaskError):
    """A node raised. The user's own exception is `__cause__`.

    Attributes:
        phase: "prep", "exec" or "post".
    """

    def __init__(self, message: str, *, phase: str = "", **place: Any) -> None:
        super().__init__(message, **place)
        self.phase = phase


class RetryExhaustedError(TaskError):
    """Every attempt that the retry strategy allowed has failed; `__cause__` is the last failure.

    Attributes:
        attempts: how many attempts were made.
        phase: the phase that failed last where the task is a node, else None.
    """

    def __init__(self, message: str, *, attempts: int = 0, phase: str | None = None, **place: Any) -> None:
        super().__init__(message, **place)
        self.attempts = attempts
        self.phase = phase


class StepTimeoutError(WorkflowError, TimeoutError):
    """An attempt (or, with `total`, the whole step) took longer than allowed.

    Attributes:
        timeout: the limit, in seconds.
        total: True where the limit of the whole step was reached, retries included.
        abandoned: True where the step ran in a thread, which cannot be stopped: it may still be running,
            and what it writes to the store is discarded.
    """

    def __init__(
        self, message: str, *, timeout: float = 0.0, total: bool = False, abandoned: bool = False, **place: Any
    ) -> None:
        super().__init__(message, **place)
        self.timeout = timeout
        self.total = total
        self.abandoned = abandoned


class RunTimeoutError(WorkflowError, TimeoutError):
    """A run took longer than its `timeout`.

    Attributes:
        timeout: the limit, in seconds.
    """

    def __init__(self, message: str, *, timeout: float = 0.0, **place: Any) -> None:
        super().__init__(message, **place)
        self.timeout = timeout


class JoinError(WorkflowError):
    """A split's branches did not meet its join's condition.

    Attributes:
        outcome: the `SplitOutcome`: every branch with its status, result and error.
    """

    def __init__(self, message: str, *, outcome: Any = None, **place: Any) -> None:
        super().__init__(message, **place)
        self.outcome = outcome


class RunCancelledError(WorkflowError):
    """The run was cancelled by `RunHandle.cancel()`."""


class RunInterruptedError(WorkflowError):
    """The kernel closed before the run had ended. A durable run goes on after `recover`."""


class VersionMismatchError(WorkflowError):
    """A stored run belongs to another definition of its workflow.

    Attributes:
        differences: what changed, one sentence each.
    """

    def __init__(self, message: str, *, differences: Iterable[str] = (), **place: Any) -> None:
        super().__init__(message, **place)
        self.differences = tuple(differences)


class StoreError(CanoError):
    """A store refused or failed.

    Attributes:
        key: the key concerned, where there is one.
        run_id: the run concerned, where there is one.
    """

    def __init__(self, message: str, *, key: str | None = None, run_id: str | None = None) -> None:
        super().__init__(message)
        self.key = key
        self.run_id = run_id

    def __str__(self) -> str:
        # KeyError would show the repr of the message
        return str(self.args[0]) if self.args else ""


class _TypedStoreError(StoreError):
    """What the errors about one key's value have in common."""

    def __init__(self, message: str, *, key: str | None = None, expected: Any = None, actual: Any = None) -> None:
        super().__init__(message, key=key)
        self.expected = expected
        self.actual = actual


class KeyNotFoundError(_TypedStoreError, KeyError):
    """The store has no such key.

    Attributes:
        key: the key asked for.
        expected: the type asked for, or None.
        actual: always None: there is no value.
    """


class TypeMismatchError(_TypedStoreError, TypeError):
    """A value is of another type than the one asked for.

    Attributes:
        key: the key.
        expected: the type asked for.
        actual: the type of the value.
    """


class SerializationError(_TypedStoreError, TypeError):
    """A value cannot be written to, or not be read from, a durable store.

    Attributes:
        key: the key.
        expected: the type to read, where one is known.
        actual: the type of the value, where there is one.
    """


class MergeConflictError(StoreError):
    """Two branches of a split wrote different values to one key that has no reducer.

    Attributes:
        key: the key.
        values: the branches' names, each with the value it wrote.
    """

    def __init__(self, message: str, *, key: str | None = None, values: Mapping[str, Any] | None = None) -> None:
        super().__init__(message, key=key)
        self.values = dict(values or {})


class ConflictError(StoreError):
    """A commit came from a stale holder: the sequence number or the fencing token has moved on."""


class RunNotFoundError(StoreError, LookupError):
    """The store has no run of that id."""


class StoreUnavailableError(StoreError):
    """The store cannot be reached, or has been closed."""
