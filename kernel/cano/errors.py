"""Every error of Cano.

    CanoError
    ├── ConfigurationError (ValueError)        an option or argument is wrong
    │   ├── FilterError                        a filter of runs, given as text, cannot be read
    │   ├── HistoryDiscardedError              a run cannot be forked; names the first transition that is known
    │   ├── RunFileError                       the file of an exported run is refused; names the problem and the place
    │   ├── InputsChangedError                 a batch continues with other inputs; names them
    │   ├── RunExistsError                     the id of a run is in use; names the workflow of the run that has it
    │   └── SizeLimitError                     a size exceeds a limit of the kernel
    ├── ValidationError (ValueError)           a workflow's definition is wrong; lists every problem
    ├── PluginError                            a plugin is broken, incompatible, or has the name of another
    ├── SchedulerError                         a schedule is wrong or unknown
    ├── ExecutorError                          an executor did not execute a call
    │   ├── WorkerLostError                    the process that executed a call ended; another one may succeed
    │   ├── ExecutorUnavailableError           the executor cannot be reached, or is closed; the call may succeed later
    │   ├── CodeVersionError                   the process that got a call has other code for it
    │   └── RemoteError                        the call raised an error that cannot be sent; has its text
    ├── WorkflowError                          a run failed; names run, workflow, state and attempt
    │   ├── TransitionError                    a task returned a value that is not a valid next state
    │   ├── TaskError                          a task raised an exception, which is the cause
    │   │   ├── NodeError                      a node raised an exception; names the phase
    │   │   └── RetryExhaustedError            the last allowed attempt failed; counts the attempts
    │   ├── StepTimeoutError (TimeoutError)    an attempt, or a whole step, exceeded its timeout
    │   ├── StepKilledError                    a step killed more processes than its workflow allows
    │   ├── RunTimeoutError (TimeoutError)     a run exceeded its timeout
    │   ├── JoinError                          a split's branches did not meet the join's condition
    │   ├── RunCancelledError                  the run was cancelled
    │   ├── RunInterruptedError                the kernel closed before the run ended
    │   └── VersionMismatchError               a stored run belongs to another definition
    └── StoreError                             a store refused a call, or failed
        ├── PermanentStoreError                the same call fails again: retrying is useless
        │   ├── KeyNotFoundError (KeyError)    the store has no such key
        │   ├── TypeMismatchError (TypeError)  a value has another type than the one asked for
        │   ├── SerializationError (TypeError) a value cannot be stored, or not be read back
        │   ├── MergeConflictError             two branches wrote different values to one key
        │   └── RunNotFoundError (LookupError) the store has no run with this id
        └── TransientStoreError                the call may succeed later; the run is not lost
            ├── ConflictError                  another holder claimed or changed the run first
            └── StoreUnavailableError          the store cannot be reached, or is closed

Tell errors apart by class and attributes, not by their messages. A plugin that retries does not retry after a
`PermanentStoreError`. A store's own error belongs under one of the two classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cano.safe_text import safe_str


class CanoError(Exception):
    """The base class of all errors that Cano raises."""


class ConfigurationError(CanoError, ValueError):
    """An option or an argument is wrong. The message names it, its value and the allowed values.

    Attributes:
        run_id, state, key: the run, the state (or its name) and the key concerned; or None.
    """

    def __init__(self, message: str, *, run_id: str | None = None, state: Any = None, key: str | None = None) -> None:
        super().__init__(message)
        self.run_id, self.state, self.key = run_id, state, key


class InputsChangedError(ConfigurationError):
    """A batch continues with other inputs than it began with.

    Attributes:
        first, last: the places of the inputs among which one differs, counted from 1.
    """

    def __init__(self, message: str, *, first: int = 0, last: int = 0, **concerned: Any) -> None:
        super().__init__(message, **concerned)
        self.first, self.last = first, last


class SizeLimitError(ConfigurationError):
    """A size exceeds a limit of `SizeLimits`.

    Attributes:
        limit, most: the limit's name, and its value.
        size: the size.
    """

    def __init__(self, message: str, *, limit: str = "", most: int = 0, size: int = 0, **concerned: Any) -> None:
        super().__init__(message, **concerned)
        self.limit, self.most, self.size = limit, most, size


class FilterError(ConfigurationError):
    """A filter of runs cannot be read.

    Attributes:
        text, position: the filter, and the place of the problem in it, from 0.
    """

    def __init__(self, message: str, *, text: str = "", position: int = 0) -> None:
        super().__init__(message)
        self.text, self.position = text, position


class HistoryDiscardedError(ConfigurationError):
    """The oldest entries of a run's history were discarded, so that the data at a transition is not known.

    Attributes:
        first: the `seq` of the first entry that exists.
    """

    def __init__(self, message: str, *, run_id: str | None = None, first: int = 0) -> None:
        super().__init__(message, run_id=run_id)
        self.first = first


class RunFileError(ConfigurationError):
    """The file of an exported run is refused. Nothing of it is stored.

    Attributes:
        problem: "not a run file", "newer version", "truncated", "corrupt", "encrypted", "too large" or "forged".
        offset: the number of the byte at which the refused part begins.
    """

    def __init__(self, message: str, *, problem: str = "", offset: int = 0) -> None:
        super().__init__(message)
        self.problem, self.offset = problem, offset


class RunExistsError(ConfigurationError):
    """The id of a run to start is in use, and the caller must not take that run for its own. It is left as it is.

    It is another workflow's run, or not the child or the scheduled run that it should be; or `on_existing` rejects it.
    Start the run under another id.

    Attributes:
        workflow: name of the workflow of the run that has the id.
    """

    def __init__(self, message: str, *, run_id: str | None = None, workflow: str | None = None) -> None:
        super().__init__(message, run_id=run_id)
        self.workflow = workflow


class ValidationError(CanoError, ValueError):
    """A workflow's definition is wrong.

    Attributes:
        workflow, problems: the workflow's name, and every problem found, one sentence each.
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
        plugin: the name of the plugin (of its entry point), or None if it is not known.
        distribution: `name version` of the distribution that contains it, or None if it is not known.
    """

    def __init__(self, message: str, *, plugin: str | None = None, distribution: str | None = None) -> None:
        super().__init__(message)
        self.plugin, self.distribution = plugin, distribution


class SchedulerError(CanoError):
    """A schedule is wrong or unknown, or does not support the call."""


class WorkflowError(CanoError):
    """A run failed. An attribute that is not known is None.

    Attributes:
        run_id: the run's id.
        workflow: the workflow's name.
        state: the state whose step failed.
        attempt: the attempt of that step, counted from 1.
        traceback: the traceback as text, of an error that was read from a store.
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
        self.traceback: str | None = None
        self._locate(run_id, workflow, state, attempt)

    def _locate(self, run_id: str | None, workflow: str | None, state: Any, attempt: int | None) -> None:
        self.run_id, self.workflow, self.state, self.attempt = run_id, workflow, state, attempt
        location = {"run": run_id, "workflow": workflow, "state": state, "attempt": attempt}
        known = [f"{label} {safe_str(value)}" for label, value in location.items() if value is not None]
        if known:
            self.add_note("at " + ", ".join(known))


class TransitionError(WorkflowError):
    """A task returned a value that is not a valid next state.

    Attributes:
        returned: the value that it returned.
        allowed: the states that it may return.
    """

    def __init__(self, message: str, *, returned: Any = None, allowed: Iterable[Any] = (), **location: Any) -> None:
        super().__init__(message, **location)
        self.returned, self.allowed = returned, tuple(allowed)


class TaskError(WorkflowError):
    """A task raised an exception, which is `__cause__`, unchanged."""


class NodeError(TaskError):
    """A node raised an exception, which is `__cause__`, unchanged.

    Attributes:
        phase: "prep", "exec" or "post".
    """

    def __init__(self, message: str, *, phase: str = "", **location: Any) -> None:
        super().__init__(message, **location)
        self.phase = phase


class RetryExhaustedError(TaskError):
    """Every attempt that the retry strategy allowed has failed; `__cause__` is the last attempt's exception.

    Attributes:
        attempts: the number of attempts made.
        phase: the phase that failed last, if the task is a node; otherwise None.
    """

    def __init__(self, message: str, *, attempts: int = 0, phase: str | None = None, **location: Any) -> None:
        super().__init__(message, **location)
        self.attempts, self.phase = attempts, phase


class StepTimeoutError(WorkflowError, TimeoutError):
    """An attempt (or, with `total`, the whole step) exceeded its timeout.

    Attributes:
        timeout: the timeout in seconds.
        total: True if it is the timeout of the whole step, retries included.
        abandoned: True if the attempt may still be running: in a thread, which cannot be stopped, or in an executor
            that cannot stop it. Its writes to the store are discarded.
    """

    def __init__(
        self, message: str, *, timeout: float = 0.0, total: bool = False, abandoned: bool = False, **location: Any
    ) -> None:
        super().__init__(message, **location)
        self.timeout, self.total, self.abandoned = timeout, total, abandoned


class StepKilledError(WorkflowError):
    """A step killed more processes than `Workflow(max_takeovers=…)` allows, so that it is not started again.

    Attributes:
        kills: the number of processes that were killed, or lost the run's lease, in this step.
    """

    def __init__(self, message: str, *, kills: int = 0, **location: Any) -> None:
        super().__init__(message, **location)
        self.kills = kills


class RunTimeoutError(WorkflowError, TimeoutError):
    """A run exceeded its timeout.

    Attributes:
        timeout: the timeout in seconds.
    """

    def __init__(self, message: str, *, timeout: float = 0.0, **location: Any) -> None:
        super().__init__(message, **location)
        self.timeout = timeout


class JoinError(WorkflowError):
    """A split's branches did not meet its join's condition.

    Attributes:
        outcome: the `SplitOutcome`, with every branch's status, result and error.
    """

    def __init__(self, message: str, *, outcome: Any = None, **location: Any) -> None:
        super().__init__(message, **location)
        self.outcome = outcome


class RunCancelledError(WorkflowError):
    """The run was cancelled: by `RunHandle.cancel`, by `Kernel.cancel`, or together with its parent run.

    A step whose child run was cancelled by itself is not retried, since that would undo the cancellation.

    Attributes:
        with_parent: True if the run ended with its parent, or with the parent's attempt, the next of which resumes it.
    """

    def __init__(self, message: str, *, with_parent: bool = False, **location: Any) -> None:
        super().__init__(message, **location)
        self.with_parent = with_parent


class RunInterruptedError(WorkflowError):
    """The kernel closed before the run ended.

    To continue a durable run, call `kernel.recover(flow)` or `kernel.resume(flow, run_id)`.
    """


class VersionMismatchError(WorkflowError):
    """A stored run belongs to another definition of its workflow.

    Finish it with the old program, or define `Workflow(migrate=…)`, and `migrate_from=…` if more than states changed.

    Attributes:
        differences: every difference between the definitions, one sentence each.
    """

    def __init__(self, message: str, *, differences: Iterable[str] = (), **location: Any) -> None:
        super().__init__(message, **location)
        self.differences = tuple(differences)


class StoreError(CanoError):
    """A store refused a call, or failed.

    Attributes:
        key: the key concerned, or None.
        run_id: the run concerned, or None.
    """

    def __init__(self, message: str, *, key: str | None = None, run_id: str | None = None) -> None:
        super().__init__(message)
        self.key, self.run_id = key, run_id

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""  # KeyError.__str__ returns the repr of the message


class PermanentStoreError(StoreError):
    """The same call fails again, because of the stored data or its arguments. Retrying is useless."""


class TransientStoreError(StoreError):
    """The call may succeed later, or another holder has the run. A stored run is interrupted by it, not failed."""


class _TypedStoreError(PermanentStoreError):
    """The base class of errors about one key's value.

    Attributes:
        expected: the type asked for, or None if it is not known.
        actual: the type of the value, or None if there is no value.
    """

    def __init__(self, message: str, *, expected: Any = None, actual: Any = None, **concerned: str | None) -> None:
        super().__init__(message, **concerned)
        self.expected, self.actual = expected, actual


class KeyNotFoundError(_TypedStoreError, KeyError):
    """The store has no such key."""


class TypeMismatchError(_TypedStoreError, TypeError):
    """A value has another type than the one asked for."""


class SerializationError(_TypedStoreError, TypeError):
    """A value cannot be stored, or cannot be read back from a durable store."""


class MergeConflictError(PermanentStoreError):
    """Two branches of a split wrote one key, and the values differ, or one of them had read the key before.

    Give the key a reducer, or let the branches append.

    Attributes:
        key: the key.
        values: the value that each branch wrote, by the branch's name.
    """

    def __init__(self, message: str, *, key: str | None = None, values: Mapping[str, Any] | None = None) -> None:
        super().__init__(message, key=key)
        self.values = dict(values or {})


class ConflictError(TransientStoreError):
    """Another holder claimed or changed the run first. The refused call changed nothing.

    To wait for the run's result, call `kernel.run(flow, run_id=…)`.
    """


class RunNotFoundError(PermanentStoreError, LookupError):
    """The store has no run with this id."""


class StoreUnavailableError(TransientStoreError):
    """The store cannot be reached, or is closed.

    A stored run that is interrupted by this error can be resumed once the store answers again.
    """
