"""Executors: what executes calls elsewhere, the calls, and the errors of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

from cano.errors import CanoError


class Call(NamedTuple):
    """A call that an executor executes. `await call()` executes it in this process.

    Attributes:
        function: what to call. For an executor with `remote = True`: a plain function of a module, which any process
            can import. Otherwise: an async function, or a bound method.
        args: its positional arguments. For an executor with `remote = True`: bytes.
        run_id: id of the run that makes the call.
        state: name of the state whose step makes it.
        seq: number of that step in the run.
        attempt: the attempt, counted from 1.
        idempotency_key: a key that is the same in all attempts, resumes and processes.
        branch: the branch of a split that makes it, or None.
        deadline: when the attempt's timeout ends, in wall-clock seconds; or None.
        resources, priority: those of its `TaskConfig`.
        report: takes what the call reports before it ends, as bytes, in any thread, and does not raise; or None. See
            `Executor`.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    run_id: str
    state: str
    seq: int
    attempt: int
    idempotency_key: str
    branch: str | None = None
    deadline: float | None = None
    resources: Mapping[str, float] = {}
    priority: int = 0
    report: Callable[[bytes], object] | None = None

    async def __call__(self) -> Any:
        return await self.function(*self.args)


@runtime_checkable
class Executor(Protocol):
    """Executes calls elsewhere: the `exec` phases of nodes, and the tasks whose `TaskConfig` names it.

    Four attributes are optional. If `remote` is True, a call may leave the process: cano-remote then packs it, so that
    its function can be imported anywhere, and its arguments and its result are bytes. If `abandons` is True, a call
    that was cancelled may still execute; otherwise it has stopped when `submit` ends. `resources` are the names that
    the `resources` of a `TaskConfig` may have; without this attribute, all.

    If `reports` is True, the executor has a channel for what a call tells before it ends. If the call has a `report`,
    its function gets one more argument there: a function that takes bytes, in any thread. Each call of that function
    becomes a call of `report` here, in order, before `submit` ends, or never.

    An executor may have methods `open()` and `close()`, which the kernel awaits when it starts and stops.
    """

    async def submit(self, call: Call) -> Any:
        """Execute `call` and return its result. Cancelling this cancels the call, if the executor can.

        Raises:
            WorkerLostError: the process that executed the call ended. Another process may execute it again.
            ExecutorUnavailableError: the executor cannot be reached, or is closed.
            Exception: the exception that the call raised; the kernel retries it like a local failure.
        """
        ...


class ExecutorError(CanoError):
    """An executor did not execute a call."""


class WorkerLostError(ExecutorError):
    """The process that executed a call ended before it answered. Its effects outside may have happened.

    Attributes:
        losses: how many processes were lost in this attempt.
    """

    def __init__(self, message: str, *, losses: int = 1) -> None:
        super().__init__(message)
        self.losses = losses


class ExecutorUnavailableError(ExecutorError):
    """The executor cannot be reached, or is closed. The same call may succeed later."""


class CodeVersionError(ExecutorError):
    """The process that got a call has other code for its task than the process that sent it. Nothing was executed.

    Attributes:
        name: the task, as `module:qualname`.
    """

    def __init__(self, message: str, *, name: str = "") -> None:
        super().__init__(message)
        self.name = name


class RemoteError(ExecutorError):
    """A call raised an error whose class or arguments cannot be sent back. The message has its text.

    Attributes:
        error_type: the error's class, as `module:qualname`.
    """

    def __init__(self, message: str, *, error_type: str = "") -> None:
        super().__init__(message)
        self.error_type = error_type
