"""Which states a task may return: what is read from annotations and `targets=`, and what it is good for."""

from __future__ import annotations

import functools
from collections.abc import Callable
from enum import Enum
from typing import Annotated, Any, Literal, Optional, Union

import pytest
from cano import Kernel, Task, TaskConfig, TransitionError, Workflow, edges, task, undeclared


class State(Enum):
    """The states of the workflows here."""

    A = "a"
    B = "b"
    C = "c"
    END = "end"


Onward = Literal[State.B, State.C]


def declared(work: Any) -> list[State] | None:
    """What a task declares, as drawn; None where nothing is known."""
    flow = Workflow(State.A).register(State.A, work)
    return None if undeclared(flow) else [target for _, target in edges(flow)]


async def one(store: Any) -> Literal[State.B]:
    """Declares one state."""
    return State.B


async def two(store: Any) -> Literal[State.B, State.C]:
    """Declares two."""
    return State.B


async def either(store: Any) -> Literal[State.B] | Literal[State.C]:
    """Declares two, another way."""
    return State.B


async def union(store: Any) -> Union[Literal[State.B], Literal[State.C]]:  # noqa: UP007  # old code does it
    """Declares two, the old way."""
    return State.B


async def alias(store: Any) -> Onward:
    """Declares what the alias stands for."""
    return State.B


async def annotated(store: Any) -> Annotated[Literal[State.C], "comment"]:
    """Declares it with a comment."""
    return State.C


async def nested(store: Any) -> Literal[Onward, State.END]:
    """Declares an alias and one more."""
    return State.B


def plain(store: Any) -> Literal[State.END]:
    """Declares, in a thread."""
    return State.END


async def any_state(store: Any) -> State:
    """Declares nothing."""
    return State.B


async def silent(store):  # type: ignore[no-untyped-def]
    """Declares nothing."""
    return State.B


async def optional(store: Any) -> Optional[Literal[State.B]]:  # noqa: UP045  # old code does it
    """Declares nothing that can be used: None is no state."""
    return State.B


async def unknown(store: Any) -> Missing:  # type: ignore[name-defined]  # noqa: F821  # that is the point
    """Has an annotation that cannot be evaluated."""
    return State.B


@pytest.mark.parametrize(
    ("work", "states"),
    [
        (one, [State.B]),
        (two, [State.B, State.C]),
        (either, [State.B, State.C]),
        (union, [State.B, State.C]),
        (alias, [State.B, State.C]),
        (annotated, [State.C]),
        (nested, [State.B, State.C, State.END]),
        (plain, [State.END]),
        (task(one), [State.B]),
        (task(plain), [State.END]),
    ],
)
def test_literals_are_declared(work: Any, states: list[State]) -> None:
    """Return annotations that name their states declare them, in their order."""
    assert declared(work) == states


@pytest.mark.parametrize("work", [any_state, silent, optional, unknown, functools.partial(one), lambda store: State.B])
def test_other_annotations_declare_nothing(work: Any) -> None:
    """Where the annotation names no states, every state of the workflow may follow."""
    assert declared(work) is None


def test_states_that_only_a_function_knows() -> None:
    """An enum that is local to a function is found through the closure."""

    class Local(Enum):
        A = "a"
        B = "b"

    async def go(store: Any) -> Literal[Local.B]:
        return Local.B

    flow = Workflow(Local.A).register(Local.A, go)

    assert list(edges(flow)) == [(Local.A, Local.B)]


def test_wrapped_functions_declare_what_they_wrap() -> None:
    """A decorator that uses `functools.wraps` keeps the declaration."""

    def logged(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def wrapper(store: Any) -> Any:
            return await function(store)

        return wrapper

    assert declared(logged(two)) == [State.B, State.C]


def test_methods_declare() -> None:
    """A bound method declares as its function does."""

    class Service:
        async def go(self, store: Any) -> Literal[State.C]:
            return State.C

    assert declared(Service().go) == [State.C]


def test_run_of_a_task_declares() -> None:
    """A task class declares by the annotation of `run`."""

    class Go(Task[State]):
        async def run(self, store: Any) -> Literal[State.C]:
            return State.C

    assert declared(Go()) == [State.C]


def test_targets_go_before_the_annotation() -> None:
    """`targets=`, or the class attribute, is what counts where there is one."""

    class Go(Task[State]):
        targets = (State.END,)

        async def run(self, store: Any) -> Literal[State.C]:
            return State.C

    assert declared(Go()) == [State.END]
    assert declared(task(targets=[State.B, State.END])(two)) == [State.B, State.END]


def test_on_exhausted_is_an_edge() -> None:
    """Where retries lead when they are used up is drawn like any other way, once."""

    def flow(work: Any, state: State) -> list[tuple[State, State]]:
        config = TaskConfig(on_exhausted=state)
        return list(edges(Workflow(State.A).register(State.A, work, config=config)))

    assert flow(one, State.END) == [(State.A, State.B), (State.A, State.END)]
    assert flow(one, State.B) == [(State.A, State.B)]
    assert flow(any_state, State.END) == [(State.A, State.END)]


def test_undeclared_lists_the_states_that_do_not_say() -> None:
    """`undeclared` names the states whose tasks may lead anywhere."""
    flow = Workflow(State.A).register(State.A, one).register(State.B, any_state).register(State.C, silent)

    assert undeclared(flow) == [State.B, State.C]


@pytest.mark.parametrize("state", ["two", "three"])
async def test_a_declared_target_may_be_returned(kernel: Kernel, state: str) -> None:
    """A task may go to each of its targets."""
    flow = Workflow("one").register("one", task(targets=["two", "three"])(lambda store: state))
    flow.register("two", lambda store: "end").register("three", lambda store: "end").add_exit_state("end")
    visited = await kernel.run(flow)

    assert (visited.state, visited.steps) == ("end", 2)


async def test_an_undeclared_target_is_an_error_when_returned(kernel: Kernel) -> None:
    """A task that returns a state of the workflow which it does not declare has broken its word."""
    flow = Workflow("one", name="lies")
    flow.register("one", task(targets=["two"])(lambda store: "end")).register("two", lambda store: "end")
    flow.add_exit_state("end")

    with pytest.raises(TransitionError, match="does not declare as a target") as caught:
        await kernel.run(flow)
    error = caught.value

    assert error.returned == "end"
    assert error.allowed == ("two",)
    assert (error.workflow, error.state, error.attempt) == ("lies", "one", 1)


async def test_no_targets_at_all_allow_nothing(kernel: Kernel) -> None:
    """A task that declares an empty list may return no state: whatever it returns is an error."""
    flow = Workflow("one").register("one", task(targets=[])(lambda store: "end")).add_exit_state("end")
    flow.register("two", lambda store: "end")

    with pytest.raises(TransitionError) as caught:
        await kernel.run(flow)
    assert caught.value.allowed == ()
