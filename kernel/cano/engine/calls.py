"""Calls to executors: a task, or the `exec` phase of a node, that is executed elsewhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from cano.checks import similar
from cano.engine.step import Step, running
from cano.errors import ConfigurationError
from cano.executors import Call, Executor
from cano.model.workflow import state_name

if TYPE_CHECKING:
    from cano.engine.binding import BoundState
    from cano.engine.ports import Host
    from cano.model.config import TaskConfig

Caller: TypeAlias = Callable[[Any], Awaitable[Any]]
"""A function that executes the function of a bound state elsewhere: `await call(argument)` is its result."""
DEFAULT = "default"
"""The name of the executor that executes the `exec` phases of nodes whose config names none."""


def executor_of(executors: Mapping[str, Executor | None], config: TaskConfig, is_node: bool) -> Executor | None:
    """Return the executor of a task, or None for this process.

    Raises:
        ConfigurationError: the kernel has no executor of that name.
    """
    if config.executor is None:
        return executors.get(DEFAULT) if is_node else None
    if config.executor not in executors:
        meant, known = similar(config.executor, executors), ", ".join(map(repr, sorted(executors)))
        known = known or "none; pass it as Kernel(executor={…}), or to a command as --executor NAME=URL"
        raise ConfigurationError(f"executor {config.executor!r} is unknown{meant}; the kernel has {known}")
    return executors[config.executor]


def caller(kernel: Host, bound: BoundState, executor: Executor, config: TaskConfig) -> Caller:
    """Return the function that executes a task, or a node's `exec` phase, in `executor`.

    Raises:
        ConfigurationError: the task cannot be executed in another process, or no plugin packs calls.
    """
    if getattr(executor, "remote", False):
        call: Caller | None = kernel.ask("cano_bind_call", state=bound, executor=executor, config=config, kernel=kernel)
        if call is None:
            problem = f"the plugin 'remote', which sends calls to the executor, is {kernel.inactive('remote')}"
            raise ConfigurationError(problem)
        return call
    function = bound.call if bound.node is None else bound.node.exec

    async def submit(argument: Any) -> Any:
        return await executor.submit(call_of(running.get(), config, function, argument))  # type: ignore[arg-type]

    return submit


def call_of(step: Step, config: TaskConfig, function: Callable[..., Any], *args: Any) -> Call:
    """Return the call of `function` that the present attempt of `step` makes."""
    clock, deadline = step.run.kernel.clock, step.deadline
    return Call(
        function, args, step.run_id, state_name(step.state), step.seq, step.attempt, step.idempotency_key, step.branch,
        None if deadline is None else clock.time() + deadline - clock.monotonic(), config.resources, config.priority,
    )  # fmt: skip


def enter_step(call: Mapping[str, Any]) -> None:
    """Let `current_step()` return the step that made a call, in the process that executes the call.

    Args:
        call: the values of `described`.
    """
    told = _Elsewhere(**call, journal=None, plan=_Elsewhere(name=call["workflow"], version=call["version"]))
    step: Any = Step(told, told, call["branch"], call["seq"])  # type: ignore[arg-type]  # it has what a step reads
    detail = step._ensure_detail()
    detail.attempt, detail.phase, detail.payload = call["attempt"], call["phase"], call["payload"]
    running.set(step)


class _Elsewhere:
    """The run, the workflow and the state of a step, as far as another process knows them."""

    def __init__(self, **known: Any) -> None:
        vars(self).update(known)

    def __getattr__(self, name: str) -> Any:
        problem = f"the task is executed in another process, which has no {name!r} of its run"
        raise ConfigurationError(f"{problem}; use it in a task, or in a phase of a node, that is executed with the run")


def described(step: Step) -> dict[str, Any]:
    """Return what `enter_step` needs of a step; the deadline is in seconds from now."""
    deadline = step.deadline
    return {
        "run_id": step.run_id, "workflow": step.workflow, "version": step.version, "state": step.state,
        "task_name": step.task, "branch": step.branch, "seq": step.seq, "attempt": step.attempt, "phase": step.phase,
        "payload": step.payload,
        "deadline": None if deadline is None else deadline - step.run.kernel.clock.monotonic(),
    }  # fmt: skip
