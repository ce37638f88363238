"""Binding: resolves once, into plain objects, everything that the step loop needs to know about a workflow."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from inspect import CO_COROUTINE
from opcode import opmap
from types import CodeType
from typing import TYPE_CHECKING, Any

from cano.checks import time_limit
from cano.engine.attempts import attempt_until_done
from cano.engine.calls import Caller, caller, executor_of
from cano.engine.control import Paused, Refused
from cano.engine.limiter import acquire, limiters_of
from cano.engine.step import current_place, keep_step
from cano.errors import ConfigurationError, TransitionError
from cano.executors import Executor
from cano.model.code_reading import types_of
from cano.model.config import TaskConfig
from cano.model.expect import WATCHED
from cano.model.node import Node
from cano.model.task import FunctionTask, Task, function_name, is_async
from cano.model.waiting import Pause
from cano.model.workflow import similar_state, state_name
from cano.protocols import RetryStrategy
from cano.safe_text import safe_repr, safe_str

if TYPE_CHECKING:
    from cano.engine.ports import Host, Work
    from cano.engine.run import Run
    from cano.model.workflow import Registration, Workflow

Listener = Callable[[Any], None]

_YIELD = opmap["YIELD_VALUE"]


class BoundState:
    """One state of a bound workflow.

    Attributes:
        plan: the bound workflow that it belongs to.
        state, name: the state, and its name in stores.
        is_exit: whether it is an exit state.
        task, task_name: its task, None for an exit state; and the task's name.
        call: the coroutine function that executes the task: `await call(store)`.
        function: the user's function, which `call` wraps.
        fast: whether the step loop awaits `call` directly, since there are no timeouts, limits or phases.
        work: the function that the step loop awaits otherwise: `await work(strand, bound)`.
        execute: executes the `exec` phase of a node elsewhere; None in this process.
        threaded: whether the task runs in a thread, which a cancellation does not stop.
        abandons: whether the task, or its `exec` phase, is executed where a cancellation does not stop it.
        node: the task, if its phases are attempted one by one.
        given_config: the config of the state's registration, which its branches share; or None.
        retry, timeout, total_timeout, on_exhausted: the task's config, resolved.
        timed: whether the retry strategy uses the time of the first attempt.
        allowed: the states that the task declares to return; None if it declares none.
        hot: what the step loop reads in each step, in one list. First `call`, or None if there is more to do: `fast` is
            False, the state is timed, or the task may wait. Then the task's last result and the state that it stands
            for: comparing by identity spares the loop `Enum.__hash__`, which is Python code.
    """

    __slots__ = (
        "abandons", "allowed", "call", "execute", "fast", "function", "given_config", "hot", "is_exit", "name", "node",
        "on_exhausted", "plan", "retry", "state", "task", "task_name", "threaded", "timed", "timeout", "total_timeout",
        "work",

    )  # fmt: skip

    def __init__(self, plan: BoundWorkflow, state: Any) -> None:
        self.plan = plan
        self.state = state
        self.name = state_name(state)
        self.is_exit = True
        self.task: Task[Any] | None = None
        self.task_name = ""
        self.call: Callable[[Any], Any] = _no_call
        self.function: Callable[[Any], Any] = _no_call
        self.fast = self.threaded = self.abandons = False
        self.execute: Caller | None = None
        self.work: Work = attempt_until_done
        self.node: Node[Any, Any, Any] | None = None
        self.given_config: TaskConfig | None = None
        self.retry: RetryStrategy | None = None
        self.timed = False
        self.timeout: float | None = None
        self.total_timeout: float | None = None
        self.on_exhausted: BoundState | None = None
        self.allowed: frozenset[Any] | None = None
        self.hot: list[Any] = [None, _no_call, self]

    def attach(self, kernel: Host, registration: Registration) -> None:
        """Resolve the state's registration.

        Raises:
            ConfigurationError: its config names an unknown state or retry strategy, or the plugin that executes the
                task is not active.
        """
        task = registration.task
        config = registration.config or task.config or self.plan.default
        self.is_exit = False
        executor_of(kernel.executors, config, is_node=False)  # branches that are made at run time get it, too
        if config.on_exhausted is not None:
            try:
                self.on_exhausted = self.plan.states[config.on_exhausted]
            except (KeyError, TypeError):
                meant = similar_state(config.on_exhausted, self.plan.states)
                message = f"on_exhausted={config.on_exhausted!r} is not a state of the workflow{meant}"
                raise ConfigurationError(message) from None
        if registration.targets is not None:
            self.allowed = frozenset(registration.targets)
        self.task, self.task_name, self.given_config = task, task.name, registration.config
        work = kernel.ask("cano_bind_state", state=self, kernel=kernel)
        if work is not None:
            self.work = work
        elif task.plugin is not None and (problem := kernel.inactive(task.plugin)) is not None:
            raise ConfigurationError(f"the plugin {task.plugin!r}, which executes this task, is {problem}")
        else:
            self._attach_task(kernel, task, config)
        if registration.limits:
            self.fast = False
            place = f"{self.plan.name}/{self.name}"
            self.work = _limited(limiters_of(kernel, registration.limits, place, of_steps=True), self.work)
            self.hot[0] = None

    def _attach_task(self, kernel: Host, task: Task[Any] | Callable[[Any], Any], config: TaskConfig) -> None:
        self.task = task if isinstance(task, Task) else None
        self.task_name = task.name if isinstance(task, Task) else function_name(task)
        retry = config.retry
        self.retry = kernel.provided("retry strategy", retry) if isinstance(retry, str) else retry
        self.timed = self.retry is not None and getattr(self.retry, "uses_elapsed", True)
        self.timeout = time_limit("timeout", config.timeout)
        self.total_timeout = time_limit("total_timeout", config.total_timeout)
        if isinstance(task, Node) and type(task).run is Node.run:
            self.node = task
        function = task.function if isinstance(task, FunctionTask) else task.run if isinstance(task, Task) else task
        self.function = function
        self.threaded = not is_async(function)
        self.call = kernel.threads.wrap(function, keep_step, current_place) if self.threaded else function
        self.fast = self.node is None and self.timeout is None and self.total_timeout is None
        executor = executor_of(kernel.executors, config, self.node is not None)
        if executor is not None and not (isinstance(task, Task) and task.plugin is not None):
            self._attach_executor(kernel, executor, config)
        elif self.fast and not self.timed and _awaits_nothing(function):
            self.hot[0] = self.call

    def _attach_executor(self, kernel: Host, executor: Executor, config: TaskConfig) -> None:
        call, self.abandons = caller(kernel, self, executor, config), bool(getattr(executor, "abandons", False))
        if self.node is not None:
            self.execute = call
        else:
            self.call, self.threaded = call, False

    def bind_branch(self, kernel: Host, task: Task[Any] | Callable[[Any], Any]) -> BoundState:
        """Bind a task that does a part of this state's work. The config of the state's registration comes first."""
        bound = BoundState(self.plan, self.state)
        own = task.config if isinstance(task, Task) else None
        bound._attach_task(kernel, task, self.given_config or own or self.plan.default)
        return bound

    def follow(self, result: Any, given: str = "") -> BoundState:
        """Return the state that `result` stands for, and remember it for the next call.

        `given` says where the task named the state, if it did not return it.

        Raises:
            Paused: the run is to be parked.
            Refused: the result is not a state of the workflow, or not one that the task declares.
        """
        if result is self.hot[1]:
            return self.hot[2]  # type: ignore[no-any-return]
        try:
            target = self.plan.states.get(result)
        except Exception:  # noqa: BLE001  # it cannot be hashed or compared, so it is not a state
            target = None
        if target is None and isinstance(result, Pause):
            call = "sleep_until with " if result.signal is None else "wait_for with "
            on_timeout = None if result.on_timeout is None else self.follow(result.on_timeout, call + "on_timeout=")
            raise Paused(result, self.follow(result.then, call + "then="), on_timeout)
        if target is None or (self.allowed is not None and target.state not in self.allowed):
            raise Refused(self._refuse(result, target, given))
        self.hot[1:] = result, target
        return target

    def _refuse(self, result: Any, target: BoundState | None, given: str) -> TransitionError:
        allowed = self.plan.states if self.allowed is None else self.allowed
        if inspect.isawaitable(result):
            problem = "an awaitable (is an `await`, or `async def`, missing?)"
            if inspect.iscoroutine(result):
                result.close()
        elif target is not None:
            problem = f"{safe_str(result)}, which it does not declare as a target"
        else:
            meant = " (is a `return` missing?)" if result is None and not given else similar_state(result, allowed)
            problem = f"{safe_repr(result)}, which is not a state of the workflow{meant}"
        names = ", ".join(sorted(map(safe_str, allowed)))
        return TransitionError(
            f"task {self.task_name!r} of state {safe_str(self.state)} returned {given}{problem}; "
            f"it may return: {names}",
            returned=result,
            allowed=allowed,
        )

    def __repr__(self) -> str:
        return f"<BoundState {self.name}>"


class BoundWorkflow:
    """A workflow bound to a kernel.

    Attributes:
        flow, name, version, fingerprint: the workflow, and what identifies its definition in stores.
        default: the config of tasks that have none.
        types: a function that yields the types that its runs' data may consist of; for keepers of runs.
        limiters: the limits on the workflow's runs.
        start: the state that runs start in.
        states: every state that a run can be in, by state; `by_name` has them by name.
        instant: whether none of its tasks waits, so that nothing can cancel its runs.
        step_within: the expected duration of a visit in seconds, by the name of the state.
        run_started ... run_finished: the lifecycle listeners, in pluggy's order.
    """

    __slots__ = (
        "__weakref__", "by_name", "default", "fingerprint", "flow", "instant", "limiters", "name", "phase_started",
        "run_finished", "run_late", "run_parked", "run_started", "start", "states", "step_failed", "step_finished",
        "step_retrying", "step_started", "step_within", "transition_committed", "types", "version",
    )  # fmt: skip

    def __init__(self, kernel: Host, flow: Workflow[Any]) -> None:
        flow.validate()
        self.flow = flow
        self.name = flow.name
        self.version = flow.version
        self.fingerprint = flow.fingerprint()
        self.states = {state: BoundState(self, state) for state in (*flow.tasks, *flow.exit_states, flow.start)}
        self.by_name = {bound.name: bound for bound in self.states.values()}
        self.start = self.states[flow.start]
        self.types = partial(types_of, flow)
        self.default = flow.default_config or kernel.ask("cano_default_config") or TaskConfig.minimal()
        kept = any(limit.scope == "store" for registration in flow.tasks.values() for limit in registration.limits)
        self.limiters = limiters_of(kernel, flow.limits, flow.name, kept=kept)
        for state, registration in flow.tasks.items():
            if shared := [limit for limit in registration.limits if limit in flow.limits]:
                message = f"{shared[0]} limits both workflow {flow.name!r} and its state {state}: a run would wait for"
                raise ConfigurationError(f"{message} itself", state=state)
            try:
                self.states[state].attach(kernel, registration)
            except ConfigurationError as error:
                error.state = state if error.state is None else error.state
                error.add_note(f"in workflow {flow.name!r}, state {state}, task {registration.task.name!r}")
                raise
        self.instant = all(bound.is_exit or bound.hot[0] is not None for bound in self.states.values())
        self.run_started = kernel.listeners("cano_run_started")
        self.run_parked = kernel.listeners("cano_run_parked")
        self.run_finished = kernel.listeners("cano_run_finished")
        self.step_started = kernel.listeners("cano_step_started")
        self.phase_started = kernel.listeners("cano_phase_started")
        self.step_retrying = kernel.listeners("cano_step_retrying")
        self.step_finished = kernel.listeners("cano_step_finished")
        self.step_failed = kernel.listeners("cano_step_failed")
        self.transition_committed = kernel.listeners("cano_transition_committed")
        self.run_late: tuple[Listener, ...] = ()
        self.step_within: dict[str, float] = {}
        if flow.expect is not None:
            self.run_late = kernel.listeners("cano_run_late")
            self.step_within = {state_name(state): within for state, within in flow.expect.step_seconds.items()}
            self._watch(kernel)
        flow.freeze()

    def _watch(self, kernel: Host) -> None:
        """Let a plugin find the runs that are late. Workflows that expect nothing have no such observer."""
        watch = kernel.ask("cano_watch_lateness", plan=self, kernel=kernel)
        if watch is None:
            reason = f"the plugin 'durability', which finds late runs, is {kernel.inactive('durability')}"
            raise ConfigurationError(f"workflow {self.name!r} has expect=, and {reason}")
        for name in WATCHED:
            setattr(self, name, (*getattr(self, name), getattr(watch, name)))


def _awaits_nothing(function: Any) -> bool:
    """Return whether the code of an async function shows that it never waits; False if it is not known."""
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    # by type(), because a mock has every attribute and any class
    return type(code) is CodeType and code.co_flags & CO_COROUTINE > 0 and _YIELD not in code.co_code[::2]


def _limited(limiters: list[Any], work: Work) -> Work:
    """Return a `Work` that acquires a slot of every limit, and then does `work`."""

    async def limited(run: Run, bound: BoundState) -> Any:
        run.step._ensure_detail()  # makes the step loop return the slots before the next step, after the commit
        await acquire(limiters, run)
        return await work(run, bound)

    return limited


async def _no_call(store: Any) -> Any:
    raise AssertionError("an exit state has no task")
