"""`Workflow`: states, the task of each, and the exit states. It is a value and refers to no run."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar, overload
from weakref import ref

from cano.checks import listed, similar, switch, text, whole_or_none
from cano.errors import ConfigurationError, ValidationError
from cano.model.code_reading import declared_targets
from cano.model.config import TaskConfig
from cano.model.expect import Expect
from cano.model.limits import Limit, LimitKey, limits
from cano.model.split import Branches, JoinConfig, SplitTask
from cano.model.task import FunctionTask, StateT, Task, check_config
from cano.safe_text import safe_str

if TYPE_CHECKING:
    from cano.engine.run_view import RunView
    from cano.records import Transition

StoreT = TypeVar("StoreT")
TaskT = TypeVar("TaskT", bound=Task[Any])


class Registers(Protocol[StateT]):
    """The type of the decorator that `Workflow.on` returns: it registers a task, and returns it unchanged."""

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
    """The registration of a task for a state.

    Attributes:
        state: the state.
        task: its task.
        config: the config given with the registration, used in place of the task's own; or None.
        targets: the states that the task declares to return, or None if it declares none.
        limits: the limits of this state's steps at once.
    """

    state: Any
    task: Task[Any]
    config: TaskConfig | None = None
    targets: tuple[Any, ...] | None = None
    limits: tuple[Limit, ...] = ()


class Workflow(Generic[StateT]):
    """A state machine: a state's task returns the next state, and an exit state ends the run.

    A kernel can execute any number of runs of a workflow at once. A workflow cannot be changed after it was bound.

    Args:
        start: the first state.
        name: the workflow's name in stores, logs and errors; by default the name of the states' enum.
        version: the definition's version. Raise it when a change makes it impossible to continue old runs.
        default_config: the config of tasks that have none.
        limit: maximum number of runs that a kernel executes at once, or one or several `Limit`s. Other runs wait.
        limit_key: gives the runs of each value their own slots: a key of the data, or a function of the store.
        durability: "step" commits every transition to a durable store. "exit" commits only the run's end and its
            waits, which is faster; after a crash the run continues from the last commit.
        migrate: the state to continue in, by the name of the old state, for runs of an older definition. Without it,
            they cannot continue. It is for removed and renamed states: a run whose definition differs in anything
            else continues only if `migrate_from` has its version. States that still exist need not be named.
        migrate_from: the older versions whose runs continue as `migrate` says, whatever else differs. Runs of other
            versions do not continue then.
        types: more classes that a durable store may hold in this workflow's runs, which refuse all others. Those in
            the annotations of its tasks, and of the `Key`s that their code uses, need not be listed. A subclass does.
        attributes: the types of the runs' search attributes by name, such as `{"tenant": str, "amount": Decimal}`, by
            which lists find them: str, int, float, bool, Decimal, datetime, date, or an enum of str or int values. An
            attribute has the value of the data's key of that name, until a step sets it: `current_step().attributes`.
        clear_attributes: whether an encrypted store may keep the attributes in clear, as finding runs by them needs.
            Otherwise it refuses the workflow, if that has attributes.
        max_takeovers: how often a stored run's step may be started again whose process was killed, or hung for longer
            than its lease. After that the run fails with `StepKilledError`. None is without limit.
        expect: how long runs and steps should take at most. Those that take longer are reported as late, once: by
            the hook `cano_run_late`, a warning in the log, `kernel.get` and `kernel.explain`.

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
        migrate_from: Iterable[str] | None = None,
        types: Iterable[Any] = (),
        attributes: Mapping[str, type] | None = None,
        clear_attributes: bool = False,
        max_takeovers: int | None = 10,
        expect: Expect | None = None,
    ) -> None:
        if isinstance(start, type):
            raise ConfigurationError(f"start must be a state such as {start.__name__}.START, not the class itself")
        default_name = type(start).__name__ if isinstance(start, enum.Enum) else "workflow"
        self.name = default_name if name is None else text("name", name)
        self.version = text("version", version)
        self.start = _hashable(start)
        self.default_config = None if default_config is None else check_config(default_config)
        self.limits = limits(limit, limit_key)
        if durability not in ("step", "exit"):
            raise ConfigurationError(f"durability must be 'step' or 'exit', not {durability!r}")
        self.durability = durability
        if migrate is not None and not isinstance(migrate, Mapping):
            raise ConfigurationError(f"migrate must map names of old states to states, not {migrate!r}")
        self.migrate = None if migrate is None else {state_name(old): new for old, new in migrate.items()}
        if migrate_from is not None and migrate is None:
            raise ConfigurationError("migrate_from= needs migrate=, the states to continue in")
        versions = None if migrate_from is None else listed("migrate_from", migrate_from)
        self.migrate_from = None if versions is None else [text("migrate_from", version) for version in versions]
        self.types = listed("types", types)
        self.attributes: dict[str, type] = {}
        if attributes is not None:
            from cano.search_attributes import declared  # late: few workflows have attributes

            self.attributes = declared(self.name, attributes)
        self.clear_attributes = switch("clear_attributes", clear_attributes)
        self.max_takeovers = whole_or_none("max_takeovers", max_takeovers, 0)
        if not isinstance(expect, Expect | None):
            raise ConfigurationError(f"expect must be an Expect(within=…, step_within=…) or None, not {expect!r}")
        self.expect = expect
        self._registered: dict[Any, Registration] = {}
        self._exits: dict[Any, None] = {}
        self._frozen = False
        self.bindings: dict[ref[Any], Any] = {}  # by kernel, which alone reads and writes it

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
        """Register `task` as the task of `state`. Return the workflow, for chaining.

        Args:
            state: the state.
            task: a `Task`, or a function of the store that returns the next state.
            config: retries and timeouts, in place of the task's own.
            limit: maximum number of steps in this state that a kernel executes at once, or one or several `Limit`s.
                The wait for a slot counts against the run's timeout, not against the step's.
            limit_key: gives the steps of each value their own slots: a key of the data, or a function of the store.

        Raises:
            ConfigurationError: the state already has a task, the workflow is bound, or `task` is not a task.
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
        """Register several tasks that do the work of `state` concurrently. Return the workflow, for chaining.

        Each branch has its own retries and timeouts, and writes to its own view of the store. The join merges the
        views. The task of the next state finds the results of the branches in `current_step().outcome`.

        A branch must not wait for another one, for example for an event that the other sets. After a crash, a stored
        run does not call its finished branches again, so the event is never set and the run hangs.

        Args:
            state: the state.
            tasks: the branches: tasks, or functions of the store. Or one function of the store that returns them, if
                their number is known only at run time.
            join: the condition and the rules of the join, and the next state.
            config: retries and timeouts of every branch, in place of its own; its `on_exhausted` applies to the split.

        Raises:
            ConfigurationError: an argument is of the wrong kind, the join can never be met, the state already has a
                task, or the workflow is bound.
        """
        return self._add(state, SplitTask(tasks, join), config, ())

    def _add(
        self, state: Any, task: Task[Any], config: TaskConfig | None, limits: tuple[Limit, ...]
    ) -> Workflow[StateT]:
        self._require_unbound("register", state)
        if _hashable(state) in self._registered:
            other = self._registered[state].task.name
            message = f"state {state} of workflow {self.name!r} already has the task {other!r}"
            raise ConfigurationError(message, state=state)
        checked = None if config is None else check_config(config)
        if task.config is not None:
            check_config(task.config)
        self._registered[state] = Registration(state, task, checked, declared_targets(task), limits)
        return self

    def on(self, state: StateT, *, config: TaskConfig | None = None) -> Registers[StateT]:
        """Return a decorator that registers a function, a task, or a `Task` class that needs no arguments.

        The arguments and errors are those of `register`.
        """
        if isinstance(state, FunctionType | type | Task):
            raise ConfigurationError("@flow.on needs the state: @flow.on(State.X)")

        def decorate(task: Any) -> Any:
            self.register(state, task() if isinstance(task, type) else task, config=config)
            return task

        return decorate

    def add_exit_state(self, state: StateT) -> Workflow[StateT]:
        """Let a run that reaches `state` end as succeeded. Return the workflow, for chaining.

        Raises:
            ConfigurationError: the workflow is bound.
        """
        self._require_unbound("add exit state", state)
        self._exits[_hashable(state)] = None
        return self

    def add_exit_states(self, states: Iterable[StateT]) -> Workflow[StateT]:
        """Add several exit states. Return the workflow, for chaining. Raises ConfigurationError."""
        if isinstance(states, str):
            raise ConfigurationError(
                f"add_exit_states takes a list of states; for the one state {states!r} use add_exit_state"
            )
        for state in listed("states", states):
            self.add_exit_state(state)
        return self

    def freeze(self) -> None:
        """Refuse further registrations. A kernel calls it when it binds the workflow."""
        self._frozen = True

    def _require_unbound(self, what: str, state: Any) -> None:
        if self._frozen:
            raise ConfigurationError(
                f"cannot {what} {state}: workflow {self.name!r} is already bound; define it before its first run",
                state=state,
            )

    # reading

    @property
    def tasks(self) -> Mapping[StateT, Registration]:
        """The registrations by state, in order of registration."""
        return dict(self._registered)

    @property
    def exit_states(self) -> tuple[StateT, ...]:
        """The exit states, in the order in which they were added."""
        return tuple(self._exits)

    def validate(self) -> Workflow[StateT]:
        """Check the complete definition. Return the workflow, for chaining.

        Raises:
            ValidationError: the definition is wrong; `problems` lists every problem.
        """
        from cano.model.validation import problems

        if found := problems(self):
            raise ValidationError(self.name, found)
        return self

    def mermaid(self) -> str:
        """Return the workflow as a Mermaid state diagram."""
        from cano.model.drawing import mermaid

        return mermaid(self)

    def svg(self, run: RunView | None = None, history: Sequence[Transition] = (), *, around: str | None = None) -> str:
        """Return the workflow as a picture in SVG, as the plugin cano-drawing draws it.

        Args:
            run: a run, from `Kernel.get`, which is drawn over it: its path, its visits, and where it is or waits.
            history: the run's history, from `Kernel.history`.
            around: the name of a state: only what is near it is drawn. Large workflows are always drawn in part.

        Raises:
            ConfigurationError: no plugin draws, or there is no state `around`.
        """
        from cano.kernel.default import default_kernel
        from cano.model.drawing import svg

        return svg(default_kernel(), self, run, history, around)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """Return what a notebook shows: a picture, or the Mermaid text if no plugin draws."""
        from cano.kernel.default import default_kernel
        from cano.model.drawing import mimebundle

        return mimebundle(default_kernel(), self)

    def fingerprint(self) -> str:
        """Return the definition in one line of text: start, states with tasks and declared targets, exit states."""
        parts = [f"exit {state_name(state)}" for state in self._exits]
        for state, registration in self._registered.items():
            targets = ", ".join(sorted(map(state_name, registration.targets or ())))
            name = registration.task.name.replace(" of branches made at ", " of made at ")  # as stored runs have it
            parts.append(f"state {state_name(state)} does {name}" + (targets and f" -> {targets}"))
        return "; ".join([f"start {state_name(self.start)}", *sorted(parts)])

    def __repr__(self) -> str:
        return f"<Workflow {self.name!r} version {self.version!r}, {len(self._registered)} task(s)>"

    # executing

    async def orchestrate(self, store: Any) -> StateT:
        """Execute the workflow with the default kernel, on any object as store.

        Args:
            store: the object that the tasks get. For a dict, they get a `KeyValueStore`. A dict or `MemoryStore`
                changes only when a step succeeds. Any other object is passed as it is.

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
        """Call `orchestrate` in a new event loop, for scripts.

        Raises:
            ConfigurationError: an event loop is already running in this thread; await `orchestrate` instead.
        """
        import asyncio

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            running = False
        else:
            running = True
        if not running:  # outside the `except`, so that no error gets that RuntimeError as its context
            return asyncio.run(self.orchestrate(store))
        raise ConfigurationError("orchestrate_sync() inside a running event loop: use `await flow.orchestrate(store)`")


def state_name(state: Any) -> str:
    """Return a state's name in stores and diagrams: an enum member's name, or the value as text."""
    return state.name if isinstance(state, enum.Enum) else str(state)


def similar_state(state: Any, known: Iterable[Any]) -> str:
    """Return a question about the most similar of the `known` states, for messages; "" if none is similar."""
    if isinstance(state, enum.Enum):
        state = state.name
    return similar(safe_str(state), known, state_name) if isinstance(state, str) else ""


def _hashable(state: Any) -> Any:
    try:
        hash(state)
    except TypeError:
        raise ConfigurationError(f"a state must be hashable, such as an enum member, not {state!r}") from None
    text("the name of a state", state_name(state))
    return state
