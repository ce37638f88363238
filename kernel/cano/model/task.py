"""`Task`, and tasks made from functions."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar, cast, overload

from cano.errors import ConfigurationError
from cano.model.config import TaskConfig

StateT = TypeVar("StateT")
StateT_co = TypeVar("StateT_co", covariant=True)


class Task(ABC, Generic[StateT_co]):
    """The code of a state: it reads and writes the store, and returns the next state.

    Args:
        config: retries and timeouts of this task; a subclass may set the class attribute instead.

    Attributes:
        config: retries and timeouts; None for the workflow's default.
        targets: the states that `run` may return. If None, they are read from its return annotation
            (`-> Literal[State.A, State.B]`); without one, every state of the workflow is allowed.
        plugin: the name of the plugin that executes the task, in the process of its run; None for the engine.
    """

    config: TaskConfig | None = None
    targets: ClassVar[Collection[Any] | None] = None
    plugin: ClassVar[str | None] = None

    def __init__(self, config: TaskConfig | None = None) -> None:
        if config is not None:
            self.config = check_config(config)

    @abstractmethod
    async def run(self, store: Any) -> StateT_co:
        """Do the work and return the next state.

        Args:
            store: the run's data, a `KeyValueStore`; or the object that the run was started on.
        """

    @property
    def name(self) -> str:
        """The task's name in diagrams, logs and errors."""
        return type(self).__name__


class FunctionTask(Task[StateT_co]):
    """A task made from a function, for example by `@task`. It can still be called like the function.

    Args:
        function: a function `(store) -> state`, async or not.
        config: retries and timeouts; None for the workflow's default.
        targets: the states that it may return; None to read them from its return annotation.

    Raises:
        ConfigurationError: an argument is of the wrong kind.
    """

    def __init__(
        self,
        function: Callable[[Any], Any],
        *,
        config: TaskConfig | None = None,
        targets: Iterable[Any] | None = None,
    ) -> None:
        super().__init__(config)
        if not callable(function):
            raise not_a_task("a task must be a function of the store", function)
        try:
            inspect.signature(function).bind(object())
        except TypeError:
            raise ConfigurationError(
                f"task {function_name(function)!r} must take the store as its one argument; "
                f"its signature is {inspect.signature(function)}"
            ) from None
        except ValueError:
            pass  # some callables written in C have no signature
        self.function = function
        if isinstance(targets, str):
            raise ConfigurationError(f"targets must be a list of states, not the string {targets!r}")
        if targets is not None:
            self.targets = tuple(targets)  # type: ignore[misc]  # for this task only
        self.__doc__ = function.__doc__

    async def run(self, store: Any) -> StateT_co:
        """Call the function: an async one in the event loop, a plain one in a worker thread."""
        if is_async(self.function):
            return cast(StateT_co, await self.function(store))
        import asyncio

        result: Any = await asyncio.to_thread(self.function, store)
        return cast(StateT_co, await result if inspect.isawaitable(result) else result)

    def __call__(self, store: Any) -> object:
        """Call the function directly, and return its result: a coroutine if it is async."""
        return self.function(store)

    @property
    def name(self) -> str:
        """The function's name."""
        return function_name(self.function)


if TYPE_CHECKING:  # the types of `task(store)` and of `@task(...)`

    class AsyncTask(FunctionTask[StateT_co]):
        def __call__(self, store: Any) -> Coroutine[Any, Any, StateT_co]: ...

    class PlainTask(FunctionTask[StateT_co]):
        def __call__(self, store: Any) -> StateT_co: ...

    class TaskMaker(Protocol):
        @overload  # a coroutine is never a state
        def __call__(  # type: ignore[overload-overlap]
            self, function: Callable[[Any], Coroutine[Any, Any, StateT]], /
        ) -> AsyncTask[StateT]: ...
        @overload
        def __call__(self, function: Callable[[Any], StateT], /) -> PlainTask[StateT]: ...


@overload
def task(  # type: ignore[overload-overlap]  # a coroutine is never a state
    function: Callable[[Any], Coroutine[Any, Any, StateT]], /
) -> AsyncTask[StateT]: ...
@overload
def task(function: Callable[[Any], StateT], /) -> PlainTask[StateT]: ...
@overload
def task(*, config: TaskConfig | None = None, targets: Iterable[Any] | None = None) -> TaskMaker: ...
def task(
    function: Callable[[Any], Any] | None = None,
    /,
    *,
    config: TaskConfig | None = None,
    targets: Iterable[Any] | None = None,
) -> Any:
    """Make a task from a function `(store) -> state`.

    The kernel executes an async function in the event loop, a plain one in a worker thread with a copy of the context.
    If that returns an awaitable, as the wrapper of an async function does, the kernel awaits it in the event loop.

    Args:
        function: the function.
        config: retries and timeouts; None for the workflow's default.
        targets: the states that it may return; None to read them from its return annotation.

    Raises:
        ConfigurationError: an argument is of the wrong kind.

    Example:
        @task
        async def fetch(store: KeyValueStore) -> Literal[State.PARSE]:
            store["page"] = await download(store["url"])
            return State.PARSE
    """
    if function is not None:
        return FunctionTask(function)
    return lambda function: FunctionTask(function, config=config, targets=targets)


def is_async(function: Callable[..., Any]) -> bool:
    """Return whether `function` is async: calling it returns a coroutine."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004  # an object with an async __call__
    )


def not_a_task(problem: str, given: Any) -> ConfigurationError:
    """Return the error of an object that is not a task. It says what a class of the user's lacks."""
    if callable(getattr(given, "run", None)) and not isinstance(given, type):
        problem = f"{type(given).__name__} has a run method, but is not a Task: derive it from cano.Task"
        return ConfigurationError(problem)
    return ConfigurationError(f"{problem}, not {given!r}")


def check_config(config: Any) -> TaskConfig:
    """Return `config`. Raises ConfigurationError if it is not a `TaskConfig`."""
    if not isinstance(config, TaskConfig):
        raise ConfigurationError(f"config must be a TaskConfig, not {config!r}")
    return config


def function_name(function: Any) -> str:
    """Return the name of a function; for a `functools.partial`, that of its function."""
    function = getattr(function, "func", function)
    name: str = getattr(function, "__name__", None) or type(function).__name__
    return name
