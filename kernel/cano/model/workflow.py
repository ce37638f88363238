"""A Workflow: states, the task of each, and the states that end a run. A value; it holds no run."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, overload
from weakref import WeakKeyDictionary

from cano.errors import ConfigurationError, ValidationError
from cano.model.code_reading import declared_targets
from cano.model.config import TaskConfig
from cano.model.limits import Limit, LimitKey, limits
from cano.model.split import Branches, JoinConfig, SplitTask
from cano.model.task import FunctionTask, StateT, Task, check_config

StoreT = TypeVar("StoreT")
TaskT = TypeVar("TaskT", bound=Task[Any])


class Registers(Protocol[StateT]):
    """What `Workflow.on` returns: it registers what it decorates, and gives it back."""

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a task made of a function is still a function
        self, task: FunctionTask[StateT], /
    ) -> FunctionTask[StateT]: ...
    @overload
    def __call__(self, task: type[TaskT], /) -> type[TaskT]: ...
    @overload
    def __call__(
        self, task: Callable[[StoreT], Coroutine[Any, Any, StateT]], /
    ) -> Callable[[StoreT], Coroutine[Any, Any, StateT]]: ...
    @overload
    def __call__(self, task: Callable[[StoreT], StateT], /) -> Callable[[StoreT], StateT]: ...


class Registration(NamedTuple):
    """One state's task, as it was registered.

    Attributes:
        state: the state.
        task: its task.
        config: what the registration itself asks for; it goes before the task's own config.
        targets: the states that the task declares, or None.
        limits: how many steps of this state may run at once.
    """

    state: Any
    task: Task[Any]
    config: TaskConfig | None = None
    targets: tuple[Any, ...] | None = None
    limits: tuple[Limit, ...] = ()


class Workflow(Generic[StateT]):
    """A state machine: what a state's task returns is the next state; exit states end the run.

    A workflow can be started any number of times at once. Once a kernel has bound it, it cannot be changed.

    Args:
        start: the first state.
        name: what it is called in stores, logs and errors; by default the name of the states' enum.
        version: to be raised when a change makes old runs unable to go on.
        default_config: the config of tasks that have none of their own.
        limit: how many runs a kernel drives at once, or one or several `Limit`s; others wait for their turn.
        limit_key: counts the runs of each value on their own: a key of the data, or a function of the store.
        durability: "step" commits every transition to a durable store, "exit" only the run's end (and its waits):
            faster, but a crash takes the run back to its last commit.
        migrate: how runs of an older definition go on: names of old states to states. Without it they do not;
            an empty mapping lets every run go on whose state still exists.
        types: classes that a durable store may hold in this workflow's runs, beside those that the annotations of
            its tasks and the `Key`s in their code name.

    Raises:
        ConfigurationError: an argument is of the wrong kind.
    """

    def __init__(
        self,
        start: StateT,
        *,
        name: str | None = None,
        version: str = "1",
        default_config: TaskConfig | None = None,
        limit: int | Limit | Iterable[Limit] | None = None,
        limit_key: LimitKey | None = None,
        durability: str = "step",
        migrate: Mapping[str, StateT] | None = None,
        types: Iterable[Any] = (),
    ) -> None:
        if isinstance(start, type):
            raise ConfigurationError(f"start must be a state such as {start.__name__}.START, not the class itself")
        default_name = type(start).__name__ if isinstance(start, enum.Enum) else "workflow"
        self.name = default_name if name is None else _text("name", name)
        self.version = _text("version", version)
        self.start = _hashable(start)
        self.default_config = None if default_config is None else check_config(default_config)
        self.limits = limits(limit, limit_key)
        if durability not in ("step", "exit"):
            raise ConfigurationError(f"durability must be 'step' or 'exit', not {durability!r}")
        self.durability = durability
        if migrate is not None and not isinstance(migrate, Mapping):
            raise ConfigurationError(f"migrate must map names of old states to states, not {migrate!r}")
        self.migrate = None if migrate is None else {state_name(old): new for old, new in migrate.items()}
        self.types = tuple(types)
        self._registered: dict[Any, Registration] = {}
        self._exits: dict[Any, None] = {}
        self._frozen = False
        self.bindings: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()  # by kernel; for the kernels

    # defining

    def register(
        self,
        state: StateT,
        task: Task[StateT] | Callable[[Any], StateT | Awaitable[StateT]],
        *,
        config: TaskConfig | None = None,
        limit: int | Limit | Iterable[Limit] | None = None,
        limit_key: LimitKey | None = None,
    ) -> Workflow[StateT]:
        """Let `task` do the work of `state`. Returns the workflow, for chaining.

        Args:
            state: the state.
            task: a `Task`, or a function of the store that returns the next state.
            config: retries and limits for this registration, instead of the task's own.
            limit: how many steps of this state a kernel runs at once, or one or several `Limit`s. The wait for a
                place counts into the run's timeout, not into the step's.
            limit_key: counts the steps of each value on their own: a key of the data, or a function of the store.

        Raises:
            ConfigurationError: the state has a task already, the workflow is bound, or `task` is no task.
        """
        if isinstance(task, type):
            raise ConfigurationError(f"register an instance: {task.__name__}(), not the class {task.__name__}")
        made = task if isinstance(task, Task) else FunctionTask[StateT](task)
        return self._add(state, made, config, limits(limit, limit_key))

    def register_split(
        self,
        state: StateT,
        tasks: Branches | Callable[[Any], Any],
        join: JoinConfig,
        *,
        config: TaskConfig | None = None,
    ) -> Workflow[StateT]:
        """Let several tasks do the work of `state` side by side. Returns the workflow, for chaining.

        Each branch has retries and limits of its own and writes to its own view of the store; the views are merged
        at the join. What a branch returns is found, by the task of the next state, in `current_step().outcome`.

        Args:
            state: the state.
            tasks: the branches: tasks, or functions of the store; or one function of the store that returns
                them, where their number is known only at run time.
            join: when the split is done, and which state follows.
            config: retries and limits of every branch, instead of its own; its `on_exhausted` is the split's.

        Raises:
            ConfigurationError: an argument is of the wrong kind, or the join could never be met.
        """
        return self._add(state, SplitTask(tasks, join), config, ())

    def _add(
        self, state: Any, task: Task[Any], config: TaskConfig | None, limits: tuple[Limit, ...]
    ) -> Workflow[StateT]:
        self._open_for("register", state)
        if _hashable(state) in self._registered:
            there = self._registered[state].task.name
            raise ConfigurationError(f"state {state} of workflow {self.name!r} already has the task {there!r}")
        checked = None if config is None else check_config(config)
        if task.config is not None:
            check_config(task.config)
        self._registered[state] = Registration(state, task, checked, declared_targets(task), limits)
        return self

    def on(self, state: StateT, *, config: TaskConfig | None = None) -> Registers[StateT]:
        """Decorator form of `register`, for a function, a task, or a `Task` class that needs no arguments."""

        def decorate(task: Any) -> Any:
            self.register(state, task() if isinstance(task, type) else task, config=config)
            return task

        return decorate

    def add_exit_state(self, state: StateT) -> Workflow[StateT]:
        """Let a run that reaches `state` end there, in success. Returns the workflow."""
        self._open_for("add exit state", state)
        self._exits[_hashable(state)] = None
        return self

    def add_exit_states(self, states: Iterable[StateT]) -> Workflow[StateT]:
        """Add several exit states. Returns the workflow."""
        if isinstance(states, str):
            raise ConfigurationError(
                f"add_exit_states takes a list of states; for the one state {states!r} it is add_exit_state"
            )
        for state in states:
            self.add_exit_state(state)
        return self

    def freeze(self) -> None:
        """Refuse further registrations. A kernel calls it when it binds the workflow."""
        self._frozen = True

    def _open_for(self, what: str, state: Any) -> None:
        if self._frozen:
            raise ConfigurationError(
                f"cannot {what} {state}: workflow {self.name!r} was bound by a kernel already; define it first"
            )

    # looking

    @property
    def tasks(self) -> Mapping[StateT, Registration]:
        """The registered states with their tasks, in order of registration."""
        return dict(self._registered)

    @property
    def exit_states(self) -> tuple[StateT, ...]:
        """The exit states, in the order in which they were added."""
        return tuple(self._exits)

    def validate(self) -> Workflow[StateT]:
        """Check the definition as a whole. Returns the workflow.

        Raises:
            ValidationError: with every problem found.
        """
        from cano.model.validation import problems

        if found := problems(self):
            raise ValidationError(self.name, found)
        return self

    def mermaid(self) -> str:
        """The workflow as a Mermaid state diagram."""
        from cano.model.drawing import mermaid

        return mermaid(self)

    def fingerprint(self) -> str:
        """The definition in one line of text: start, states with tasks and declared targets, exit states."""
        parts = [f"exit {state_name(state)}" for state in self._exits]
        for state, registration in self._registered.items():
            targets = ", ".join(sorted(map(state_name, registration.targets or ())))
            parts.append(f"state {state_name(state)} does {registration.task.name}" + (targets and f" -> {targets}"))
        return "; ".join([f"start {state_name(self.start)}", *sorted(parts)])

    def __repr__(self) -> str:
        return f"<Workflow {self.name!r} version {self.version!r}, {len(self._registered)} task(s)>"

    # running

    async def orchestrate(self, store: Any) -> StateT:
        """Run with the default kernel, on any object as store. The shortest way in.

        Args:
            store: what the tasks get. A dict is shown to them as a `KeyValueStore`; a `MemoryStore` and a
                dict change only when a step succeeds; any other object is handed over as it is.

        Returns:
            The exit state.

        Raises:
            ValidationError: the definition is wrong.
            WorkflowError: the run failed; the cause is what a task raised.
        """
        from cano.kernel.default import default_kernel

        kernel = default_kernel()
        state: StateT = await kernel.orchestrate(self, store)
        return state

    def orchestrate_sync(self, store: Any) -> StateT:
        """`orchestrate` for scripts, in an event loop of its own.

        Raises:
            ConfigurationError: an event loop is running here already; await `orchestrate` instead.
        """
        import asyncio

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            running = False
        else:
            running = True
        if not running:  # out here, so that no failure drags that RuntimeError along as its context
            return asyncio.run(self.orchestrate(store))
        raise ConfigurationError("orchestrate_sync() inside a running event loop: use `await flow.orchestrate(store)`")


def state_name(state: Any) -> str:
    """How a state is written in stores and drawings: an enum member's name, or the value as text."""
    return state.name if isinstance(state, enum.Enum) else str(state)


def _hashable(state: Any) -> Any:
    try:
        hash(state)
    except TypeError:
        raise ConfigurationError(f"a state must be hashable, such as an enum member, not {state!r}") from None
    return state


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"{name} must be a non-empty string, not {value!r}")
    return value
