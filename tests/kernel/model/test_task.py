"""`Task`, `@task` and `TaskConfig`: what they take, what they refuse, and how they run."""

from __future__ import annotations

import asyncio
import functools
import math
import threading
from dataclasses import FrozenInstanceError
from enum import Enum
from typing import Any

import pytest
from cano import (
    CanoError,
    ConfigurationError,
    FunctionTask,
    Kernel,
    RetryExhaustedError,
    Task,
    TaskConfig,
    TaskError,
    Workflow,
    task,
)
from cano.testing import VirtualClock


class State(Enum):
    """The states of the workflows here."""

    START = "start"
    DONE = "done"


class Attempts:
    """A retry strategy that allows so many attempts and waits a second between them."""

    def __init__(self, attempts: int) -> None:
        self.attempts = attempts

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """See `RetryStrategy`."""
        return 1.0 if attempt < self.attempts else None


class Greet(Task[State]):
    """Puts a greeting."""

    async def run(self, store: Any) -> State:
        """Put it."""
        store["greeting"] = "hello"
        return State.DONE


def flow_of(work: Any, *, config: TaskConfig | None = None, default: TaskConfig | None = None) -> Workflow[State]:
    """A workflow of one task."""
    return (
        Workflow(State.START, default_config=default)
        .register(State.START, work, config=config)
        .add_exit_state(State.DONE)
    )


# the class


async def test_a_task_runs_and_names_the_next_state(kernel: Kernel) -> None:
    """What `run` writes is in the result, and what it returns is the exit state."""
    result = await kernel.run(flow_of(Greet()))

    assert result.state is State.DONE
    assert result.data == {"greeting": "hello"}
    assert result.steps == 1


async def test_a_task_can_be_run_by_hand() -> None:
    """Outside a workflow a task is an object with a coroutine method: it can be tested with a dict."""
    store: dict[str, Any] = {}

    assert await Greet().run(store) is State.DONE
    assert store == {"greeting": "hello"}


def test_task_is_abstract() -> None:
    """A task without `run` cannot be made."""

    class Idle(Task[State]):
        pass

    with pytest.raises(TypeError, match="run"):
        Idle()  # type: ignore[abstract]


def test_name_is_that_of_the_class() -> None:
    """A task is called what its class is called."""
    assert Greet().name == "Greet"


def test_config_is_none_unless_given() -> None:
    """A task without a config takes the workflow's default."""
    assert Greet().config is None


def test_config_of_the_constructor_goes_before_that_of_the_class() -> None:
    """The class attribute is the default of the argument, and stays what it is."""

    class Patient(Greet):
        config = TaskConfig(timeout=1)

    assert Patient().config == TaskConfig(timeout=1)
    assert Patient(TaskConfig(timeout=2)).config == TaskConfig(timeout=2)
    assert Patient.config == TaskConfig(timeout=1)


@pytest.mark.parametrize("config", [5, "fixed", {"timeout": 1}, TaskConfig])
def test_config_of_another_kind_is_refused(config: Any) -> None:
    """Only a `TaskConfig` is a config, for a task of either kind."""
    with pytest.raises(ConfigurationError, match="config must be a TaskConfig"):
        Greet(config)
    with pytest.raises(ConfigurationError, match="config must be a TaskConfig"):
        task(config=config)(lambda store: State.DONE)


async def test_a_constructor_of_its_own_need_not_call_the_base(kernel: Kernel) -> None:
    """A subclass that forgets `super().__init__()` works all the same."""

    class Add(Task[State]):
        def __init__(self, number: int) -> None:
            self.number = number

        async def run(self, store: Any) -> State:
            store["sum"] = store["sum"] + self.number
            return State.DONE

    assert (await kernel.run(flow_of(Add(2)), {"sum": 3})).data == {"sum": 5}


async def test_a_plain_run_method_runs_in_a_thread(kernel: Kernel) -> None:
    """`def run` blocks a worker thread, never the event loop."""

    class Blocking(Task[State]):
        def run(self, store: Any) -> State:  # type: ignore[override]  # that is the point
            store["thread"] = threading.get_ident()
            return State.DONE

    result = await kernel.run(flow_of(Blocking()))

    assert result.data["thread"] != threading.get_ident()


async def test_one_task_serves_several_states_and_runs(kernel: Kernel) -> None:
    """A task is no more bound to a state than a function is to its caller."""

    class Count(Task[str]):
        async def run(self, store: Any) -> str:
            store["count"] = store.get("count", default=0) + 1
            return "b" if store["count"] == 1 else "end"

    count = Count()
    flow = Workflow("a").register("a", count).register("b", count).add_exit_state("end")

    results = await asyncio.gather(*(kernel.run(flow) for _ in range(3)))

    assert [result.data for result in results] == [{"count": 2}] * 3


# the decorator


async def test_async_function_becomes_a_task(kernel: Kernel) -> None:
    """`@task` on an async function makes a task that runs in the event loop."""

    @task
    async def here(store: Any) -> State:
        """Says where it runs."""
        store["thread"] = threading.get_ident()
        return State.DONE

    assert isinstance(here, FunctionTask)
    assert (here.name, here.__doc__, here.config, here.targets) == ("here", "Says where it runs.", None, None)
    assert (await kernel.run(flow_of(here))).data == {"thread": threading.get_ident()}


async def test_plain_function_runs_in_a_worker_thread(kernel: Kernel) -> None:
    """`@task` on a plain function makes a task that runs elsewhere."""

    @task
    def elsewhere(store: Any) -> State:
        store["thread"] = threading.get_ident()
        store["name"] = threading.current_thread().name
        return State.DONE

    data = (await kernel.run(flow_of(elsewhere))).data

    assert data["thread"] != threading.get_ident()
    assert data["name"].startswith("cano")


async def test_a_function_task_is_still_the_function() -> None:
    """Called by hand it does what the function does, so that it can be tested as one."""

    @task
    async def later(store: Any) -> State:
        store["later"] = True
        return State.DONE

    @task
    def now(store: Any) -> State:
        store["now"] = True
        return State.DONE

    store: dict[str, Any] = {}

    assert await later(store) is State.DONE
    assert now(store) is State.DONE
    assert store == {"later": True, "now": True}


async def test_run_of_a_function_task_by_hand() -> None:
    """`run` awaits an async function, and puts a plain one into a thread, kernel or not."""

    @task
    async def later(store: Any) -> str:
        return f"{threading.get_ident()}"

    @task
    def now(store: Any) -> str:
        return f"{threading.get_ident()}"

    here = f"{threading.get_ident()}"

    assert await later.run({}) == here
    assert await now.run({}) != here


def test_options_of_the_decorator() -> None:
    """`config=` and `targets=` belong to this one task."""

    @task(config=TaskConfig(timeout=3), targets=[State.DONE])
    async def work(store: Any) -> State:
        return State.DONE

    assert work.config == TaskConfig(timeout=3)
    assert work.targets == (State.DONE,)
    assert FunctionTask.targets is None
    assert FunctionTask.config is None


async def test_functions_of_many_kinds(kernel: Kernel) -> None:
    """Lambdas, partials, bound methods and objects that can be called are functions of the store."""

    async def end(store: Any, state: State) -> State:
        return state

    class Ender:
        async def __call__(self, store: Any) -> State:
            return State.DONE

        async def method(self, store: Any) -> State:
            return State.DONE

        def plain(self, store: Any) -> State:
            return State.DONE

    kinds: list[Any] = [
        lambda store: State.DONE,
        functools.partial(end, state=State.DONE),
        Ender(),
        Ender().method,
        Ender().plain,
    ]

    states = [(await kernel.run(flow_of(kind))).state for kind in kinds]

    assert states == [State.DONE] * len(kinds)


def test_name_is_that_of_the_function() -> None:
    """A function task is called what its function is called; a partial what it is of."""
    assert task(lambda store: State.DONE).name == "<lambda>"
    assert task(functools.partial(math.pow, 1.0)).name == "pow"
    assert task(Greet().run).name == "run"


@pytest.mark.parametrize(
    "function", [lambda: None, lambda store, other: None, lambda *, store: None, lambda store, /, *, must: None]
)
def test_signature_without_exactly_the_store_is_refused(function: Any) -> None:
    """A function that cannot be called with the store is refused when the task is made, not when it runs."""
    with pytest.raises(ConfigurationError, match="must take the store as its one argument"):
        task(function)


@pytest.mark.parametrize("function", [lambda store, other=1: None, lambda *args: None, lambda store, **more: None])
def test_signature_with_more_that_is_optional(function: Any) -> None:
    """Arguments with defaults do no harm."""
    assert isinstance(task(function), FunctionTask)


@pytest.mark.parametrize("function", [5, "name", State.DONE])
def test_what_is_no_function_is_refused(function: Any) -> None:
    """Only something callable can be made a task."""
    with pytest.raises(ConfigurationError, match="must be a function of the store"):
        task(function)


# TaskConfig


def test_config_defaults() -> None:
    """A plain config asks for nothing, as `minimal` does."""
    assert TaskConfig() == TaskConfig(retry=None, timeout=None, total_timeout=None, on_exhausted=None)
    assert TaskConfig.minimal() == TaskConfig()


def test_config_is_a_value() -> None:
    """It can be shared: nobody can change it, and equal ones are equal."""
    config = TaskConfig(timeout=1)

    assert config == TaskConfig(timeout=1)
    with pytest.raises(FrozenInstanceError):
        config.timeout = 2  # type: ignore[misc]


@pytest.mark.parametrize("field", ["timeout", "total_timeout"])
@pytest.mark.parametrize("seconds", [0, -1, -0.1, math.nan, "1", True, [1]])
def test_limits_that_are_no_positive_seconds(field: str, seconds: Any) -> None:
    """A limit is a positive number; the message names which one is wrong, and how."""
    with pytest.raises(ConfigurationError, match=f"^{field} must be a positive number of seconds") as caught:
        TaskConfig(**{field: seconds})

    assert repr(seconds) in str(caught.value)


@pytest.mark.parametrize("retry", [3, 1.5, object(), [], True])
def test_retry_that_is_no_strategy(retry: Any) -> None:
    """A strategy has a `delay` method or a name."""
    with pytest.raises(ConfigurationError, match="retry must be a strategy"):
        TaskConfig(retry=retry)


def test_unknown_option_is_refused() -> None:
    """A misspelled option is an error, not ignored."""
    with pytest.raises(TypeError, match="timeot"):
        TaskConfig(timeot=1)  # type: ignore[call-arg]


# which config counts


class Fails(Task[State]):
    """Always fails, and counts how often."""

    def __init__(self, config: TaskConfig | None = None) -> None:
        super().__init__(config)
        self.attempts = 0

    async def run(self, store: Any) -> State:
        """Fail."""
        self.attempts += 1
        raise ValueError("no")


@pytest.mark.parametrize(
    ("registered", "own", "default", "attempts"),
    [
        (None, None, None, 1),
        (None, None, 2, 2),
        (None, 3, 2, 3),
        (4, 3, 2, 4),
        (4, None, None, 4),
        (1, 3, 2, 1),
    ],
)
async def test_the_nearest_config_counts(
    kernel: Kernel, registered: int | None, own: int | None, default: int | None, attempts: int
) -> None:
    """The registration's config goes before the task's, that before the workflow's, that before no retries."""

    def config(allowed: int | None) -> TaskConfig | None:
        return None if allowed is None else TaskConfig(retry=Attempts(allowed))

    work = Fails(config(own))

    with pytest.raises(TaskError):
        await kernel.run(flow_of(work, config=config(registered), default=config(default)))
    assert work.attempts == attempts


async def test_a_config_counts_as_a_whole(kernel: Kernel) -> None:
    """Configs are not merged: an own one without retries means no retries, whatever the default has."""
    work = Fails(TaskConfig(timeout=5))

    with pytest.raises(TaskError):
        await kernel.run(flow_of(work, default=TaskConfig(retry=Attempts(3))))
    assert work.attempts == 1


async def test_installed_retry_plugin_sets_the_default() -> None:
    """With every installed plugin a task without a config is attempted four times."""
    work = Fails()

    async with Kernel(clock=VirtualClock(), grace=0) as kernel:
        with pytest.raises(RetryExhaustedError) as caught:
            await kernel.run(flow_of(work))
    assert (work.attempts, caught.value.attempts) == (4, 4)


async def test_none_is_a_strategy_without_any_plugin(kernel: Kernel) -> None:
    """The name "none" is known to the kernel itself."""
    work = Fails(TaskConfig(retry="none"))

    with pytest.raises(TaskError):
        await kernel.run(flow_of(work, default=TaskConfig(retry=Attempts(3))))
    assert work.attempts == 1


async def test_unknown_strategy_name_fails_the_bind(kernel: Kernel) -> None:
    """A name that no plugin answers is an error before anything runs, and says where it was met."""
    work = Fails(TaskConfig(retry="fibonacci"))

    with pytest.raises(ConfigurationError, match="'fibonacci'") as caught:
        await kernel.run(flow_of(work))
    assert work.attempts == 0
    assert caught.value.__notes__ == ["in workflow 'State', state State.START, task 'Fails'"]


async def test_a_failed_bind_leaves_the_workflow_open(kernel: Kernel) -> None:
    """A workflow that could not be bound can still be completed."""
    flow = Workflow("a").register("a", lambda store: "b", config=TaskConfig(retry="fibonacci")).add_exit_state("b")
    with pytest.raises(CanoError):
        await kernel.run(flow)

    flow.add_exit_state("c")

    assert flow.exit_states == ("b", "c")
