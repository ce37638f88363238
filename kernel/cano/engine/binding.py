"""Binding: everything about a workflow that the step loop needs, resolved once into plain objects."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from cano.concurrency.branches import run_split
from cano.engine.attempts import attempt_until_done
from cano.engine.limiter import Limiter, places
from cano.errors import ConfigurationError, PluginError, TransitionError
from cano.model.config import TaskConfig
from cano.model.known_types import known_types
from cano.model.node import Node
from cano.model.split import SplitTask
from cano.model.task import FunctionTask, Task, function_name, is_async
from cano.model.waiting import Pause, Paused
from cano.model.workflow import state_name
from cano.protocols import RetryStrategy

if TYPE_CHECKING:
    from cano.kernel.kernel import Kernel
    from cano.model.workflow import Registration, Workflow

Listener = Callable[[Any], None]


class Refused(Exception):
    """A result that is no next state. The engine's own, so that no task can raise it."""

    def __init__(self, error: TransitionError) -> None:
        self.error = error


class BoundState:
    """One state of a bound workflow.

    Attributes:
        state, name: the state, and how it is written.
        task, task_name: its task, None for an exit state.
        call: the coroutine function that does the task's work: `await call(store)`.
        function: what the user wrote, where `call` wraps it.
        fast: whether `call` is all there is: no limits and no phases; the step loop awaits it directly.
        work: what the step loop awaits otherwise: `await work(strand, bound)`.
        threaded: whether it runs in a thread, which outlives its cancellation.
        node: the task, where its phases are attempted one by one.
        split, branches: the task, where branches do its work, and those that are known at bind time.
        retry, timeout, total_timeout, on_exhausted: its config, resolved.
        timed: whether the retry strategy wants to know when the first attempt began.
        last_result, last_target: what the task returned last, and the state that it meant. Comparing by
            identity spares the loop `Enum.__hash__`, which is Python code.
    """

    __slots__ = (
        "_branch_config", "allowed", "branches", "call", "fast", "function", "is_exit", "last_result",
        "last_target", "name",
        "node", "on_exhausted", "plan", "retry", "split", "state", "task", "task_name", "threaded", "timed",
        "timeout", "total_timeout", "work",
    )  # fmt: skip

    def __init__(self, plan: Plan, state: Any) -> None:
        self.plan = plan
        self.state = state
        self.name = state_name(state)
        self.is_exit = True
        self.task: Task[Any] | None = None
        self.task_name = ""
        self.call: Callable[[Any], Any] = _no_call
        self.function: Callable[[Any], Any] = _no_call
        self.fast = False
        self.threaded = False
        self.work: Callable[[Any, BoundState], Awaitable[Any]] = attempt_until_done
        self.node: Node[Any, Any, Any] | None = None
        self.split: SplitTask | None = None
        self.branches: list[BoundState] = []
        self._branch_config: TaskConfig | None = None
        self.retry: RetryStrategy | None = None
        self.timed = False
        self.timeout: float | None = None
        self.total_timeout: float | None = None
        self.on_exhausted: BoundState | None = None
        self.allowed: frozenset[Any] | None = None
        self.last_result: Any = _no_call
        self.last_target: BoundState = self

    def attach(self, kernel: Kernel, registration: Registration) -> None:
        """Resolve the state's registration."""
        task = registration.task
        config = registration.config or task.config or self.plan.default
        self.is_exit = False
        if config.on_exhausted is not None:
            try:
                self.on_exhausted = self.plan.states[config.on_exhausted]
            except (KeyError, TypeError):
                raise ConfigurationError(f"on_exhausted={config.on_exhausted!r} is no state of the workflow") from None
        if registration.targets is not None:
            self.allowed = frozenset(registration.targets)
        if isinstance(task, SplitTask):
            self.task, self.task_name, self.split = task, task.name, task
            self.work = run_split
            self._branch_config = registration.config
            self.branches = [self.branch(kernel, branch) for branch in task.branches]
        else:
            self._attach_task(kernel, task, config)
        if registration.limits:
            self.fast = False
            self.work = _within([kernel.limiter(limit) for limit in registration.limits], self.work)

    def _attach_task(self, kernel: Kernel, task: Task[Any] | Callable[[Any], Any], config: TaskConfig) -> None:
        self.task = task if isinstance(task, Task) else None
        self.task_name = task.name if isinstance(task, Task) else function_name(task)
        self.retry = _retry_strategy(kernel, config.retry)
        self.timed = self.retry is not None and getattr(self.retry, "uses_elapsed", True)
        self.timeout = config.timeout
        self.total_timeout = config.total_timeout
        if isinstance(task, Node) and type(task).run is Node.run:
            self.node = task
        function = task.function if isinstance(task, FunctionTask) else task.run if isinstance(task, Task) else task
        self.function = function
        self.threaded = not is_async(function)
        self.call = kernel.threads.wrap(function) if self.threaded else function
        self.fast = self.node is None and self.timeout is None and self.total_timeout is None

    def branch(self, kernel: Kernel, task: Task[Any] | Callable[[Any], Any]) -> BoundState:
        """One branch of this state's split, bound."""
        bound = BoundState(self.plan, self.state)
        own = task.config if isinstance(task, Task) else None
        bound._attach_task(kernel, task, self._branch_config or own or self.plan.default)
        return bound

    def follow(self, result: Any) -> BoundState:
        """The state that `result` means; it is remembered for the next time.

        Raises:
            Paused: the run is to wait before it goes on.
            Refused: it is no state of the workflow, or none that the task declares.
        """
        states = self.plan.states
        try:
            target = states.get(result)
        except TypeError:
            target = None
        if target is None and isinstance(result, Pause):
            on_timeout = None if result.on_timeout is None else self.follow(result.on_timeout)
            raise Paused(result, self.follow(result.then), on_timeout)
        if target is None or (self.allowed is not None and target.state not in self.allowed):
            raise Refused(self._refuse(result, target))
        self.last_result, self.last_target = result, target
        return target

    def _refuse(self, result: Any, target: BoundState | None) -> TransitionError:
        if inspect.isawaitable(result):
            problem = "an awaitable: was an `await`, or `async def`, forgotten?"
            if inspect.iscoroutine(result):
                result.close()
        elif target is not None:
            problem = f"{result}, which it does not declare as a target"
        else:
            problem = f"{result!r}, which is no state of the workflow"
        allowed = self.plan.states if self.allowed is None else self.allowed
        names = ", ".join(sorted(map(str, allowed)))
        return TransitionError(
            f"task {self.task_name!r} of state {self.state} returned {problem}; it may return: {names}",
            returned=result,
            allowed=allowed,
        )

    def __repr__(self) -> str:
        return f"<BoundState {self.name}>"


class Plan:
    """A workflow bound to a kernel.

    Attributes:
        default: the config of tasks that have none.
        types: what its runs' data may consist of, called when a store needs to know.
        limiters: the limits on the workflow's runs.
        states: every state that a run can be in, by state; `by_name` the same by name.
        run_started ... run_finished: the lifecycle listeners, in pluggy's order.
    """

    __slots__ = (
        "by_name", "default", "fingerprint", "flow", "limiters", "name", "phase_started", "run_finished",
        "run_parked", "run_started", "start", "states", "step_failed", "step_finished", "step_retrying", "step_started",
        "transition_committed", "types", "version",
    )  # fmt: skip

    def __init__(self, kernel: Kernel, flow: Workflow[Any]) -> None:
        flow.validate()
        self.flow = flow
        self.name = flow.name
        self.version = flow.version
        self.fingerprint = flow.fingerprint()
        self.states = {state: BoundState(self, state) for state in (*flow.tasks, *flow.exit_states, flow.start)}
        self.by_name = {bound.name: bound for bound in self.states.values()}
        self.start = self.states[flow.start]
        self.default = flow.default_config or _default_config(kernel)
        if not isinstance(self.default, TaskConfig):
            raise PluginError(f"a plugin answered {self.default!r} as the default config; it must be a TaskConfig")
        self.limiters = [kernel.limiter(limit) for limit in flow.limits]
        for state, registration in flow.tasks.items():
            if shared := [limit for limit in registration.limits if limit in flow.limits]:
                raise ConfigurationError(
                    f"{shared[0]} limits both workflow {flow.name!r} and its state {state}: a run would wait for itself"
                )
            try:
                self.states[state].attach(kernel, registration)
            except ConfigurationError as error:
                error.add_note(f"in workflow {flow.name!r}, state {state}, task {registration.task.name!r}")
                raise
        self.types = partial(known_types, flow)
        self.run_started = kernel.listeners("cano_run_started")
        self.run_parked = kernel.listeners("cano_run_parked")
        self.run_finished = kernel.listeners("cano_run_finished")
        self.step_started = kernel.listeners("cano_step_started")
        self.phase_started = kernel.listeners("cano_phase_started")
        self.step_retrying = kernel.listeners("cano_step_retrying")
        self.step_finished = kernel.listeners("cano_step_finished")
        self.step_failed = kernel.listeners("cano_step_failed")
        self.transition_committed = kernel.listeners("cano_transition_committed")
        flow._bound = True


def _default_config(kernel: Kernel) -> TaskConfig:
    config = kernel.hook.cano_default_config()
    return TaskConfig.minimal() if config is None else config


def _retry_strategy(kernel: Kernel, spec: RetryStrategy | str | None) -> RetryStrategy | None:
    if spec is None or not isinstance(spec, str):
        return spec
    strategy = kernel.hook.cano_retry_strategy(spec=spec)
    if strategy is None and spec != "none":
        raise ConfigurationError(
            f"no installed plugin has a retry strategy named {spec!r}; cano-retry has 'fixed' and 'exponential'"
        )
    if strategy is not None and not isinstance(strategy, RetryStrategy):
        raise PluginError(f"a plugin answered {strategy!r} as the retry strategy {spec!r}: it has no delay()")
    return strategy


def _within(
    limiters: list[Limiter], work: Callable[[Any, BoundState], Awaitable[Any]]
) -> Callable[[Any, BoundState], Awaitable[Any]]:
    """`work`, begun when every limit has a place for it."""

    async def limited(strand: Any, bound: BoundState) -> Any:
        async with places(limiters, strand.store):
            return await work(strand, bound)

    return limited


async def _no_call(store: Any) -> Any:
    raise AssertionError("an exit state has no task")
