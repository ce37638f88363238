"""Calls to executors: a task, or the `exec` phase of a node, that is executed elsewhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from cano.checks import similar
from cano.engine.step import Detail, Step, running
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


def enter_step(step: Step, detail: Detail) -> None:
    """Let `current_step()` return `step`, whose run another process executes, with `detail`."""
    step._detail = detail
    running.set(step)
