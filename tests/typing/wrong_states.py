"""States of another enum, wherever a state can be named."""

from __future__ import annotations

from enum import Enum
from typing import Any, Literal

from cano import KeyValueStore, Node, SubWorkflow, Task, TaskConfig, Workflow, task, wait_for


class State(Enum):
    """The workflow's own."""

    START = 1
    END = 2


class Other(Enum):
    """Somebody else's."""

    START = 1


flow = Workflow(State.START)


async def returns_another(store: KeyValueStore) -> State:
    """Says one thing and does another."""
    return Other.START  # E: return-value


async def outside_its_literal(store: KeyValueStore) -> Literal[State.END]:
    """Says more than it keeps."""
    return State.START  # E: return-value


async def another(store: KeyValueStore) -> Other:
    """Belongs elsewhere."""
    return Other.START


def plain_another(store: KeyValueStore) -> Literal[Other.START]:
    """Belongs elsewhere, and runs in a thread."""
    return Other.START


async def nothing(store: KeyValueStore) -> None:
    """Forgets to say where to go."""


@task
async def task_another(store: KeyValueStore) -> Other:
    """Belongs elsewhere."""
    return Other.START


@task(config=TaskConfig())
def configured_another(store: KeyValueStore) -> Other:
    """Belongs elsewhere."""
    return Other.START


class ClassAnother(Task[Other]):
    """Belongs elsewhere."""

    async def run(self, store: KeyValueStore) -> Other:
        """Do it."""
        return Other.START


class NodeAnother(Node[Other, None, None]):
    """Belongs elsewhere."""

    async def prep(self, store: KeyValueStore) -> None:
        """Nothing."""

    async def exec(self, prepared: None) -> None:
        """Nothing."""

    async def post(self, store: KeyValueStore, prepared: None, result: None) -> Other:
        """Do it."""
        return Other.START


class Disagrees(Task[State]):
    """Is of one enum and returns another."""

    async def run(self, store: KeyValueStore) -> Other:  # E: override
        """Do it."""
        return Other.START


flow.register(Other.START, returns_another)  # E: arg-type
flow.register(State.START, another)  # E: arg-type
flow.register(State.START, plain_another)  # E: arg-type
flow.register(State.START, nothing)  # E: arg-type
flow.register(State.START, task_another)  # E: arg-type
flow.register(State.START, configured_another)  # E: arg-type
flow.register(State.START, ClassAnother())  # E: arg-type
flow.register(State.START, NodeAnother())  # E: arg-type
flow.register(State.START, ClassAnother)  # E: arg-type
flow.register(State.START, State.END)  # E: arg-type
flow.add_exit_state(Other.START)  # E: arg-type
flow.add_exit_states([State.END, Other.START])  # E: list-item
flow.orchestrate_sync({}) is Other.START  # E: comparison-overlap


@flow.on(State.START)  # E: arg-type
async def decorated(store: KeyValueStore) -> Other:
    """Belongs elsewhere."""
    return Other.START


@flow.on(State.START)  # E: arg-type
def decorated_plain(store: KeyValueStore) -> Other:
    """Belongs elsewhere."""
    return Other.START


@flow.on(State.START)  # E: arg-type
@task
async def decorated_task(store: KeyValueStore) -> Other:
    """Belongs elsewhere."""
    return Other.START


@flow.on(Other.START)  # E: arg-type
async def decorated_for_another(store: KeyValueStore) -> State:
    """Is registered for a state that there is not."""
    return State.END


async def waits(store: KeyValueStore) -> State:
    """Waits for what never comes."""
    if store.get("late", bool):
        return wait_for("go", then=State.END, timeout=5, on_timeout=Other.START)  # E: return-value
    return wait_for("go", then=Other.START)  # E: return-value


async def waits_without_an_answer(store: KeyValueStore) -> State:
    """Does not say where silence leads."""
    return wait_for("go", then=State.END, timeout=5)  # E: call-overload, no-any-return


async def waits_for_no_timeout(store: KeyValueStore) -> State:
    """Says where a timeout leads that there is not."""
    return wait_for("go", then=State.END, on_timeout=State.START)  # E: call-overload, no-any-return


async def result() -> Other:
    """Takes one for the other."""
    return await flow.orchestrate({})  # E: return-value


def no_argument() -> State:
    """Takes no store."""
    return State.END


def two_arguments(store: KeyValueStore, other: Any) -> State:
    """Takes too much."""
    return State.END


flow.register(State.START, no_argument)  # E: arg-type
flow.register(State.START, two_arguments)  # E: arg-type
