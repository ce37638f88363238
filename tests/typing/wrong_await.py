"""A forgotten await, or one too many."""

from __future__ import annotations

from enum import Enum

from cano import ConcurrentWorkflow, Kernel, KeyValueStore, Node, Task, Workflow, task


class State(Enum):
    """The states."""

    START = 1
    END = 2


flow = Workflow(State.START)


async def fetch(store: KeyValueStore) -> State:
    """To be awaited."""
    return State.END


@task
async def fetch_task(store: KeyValueStore) -> State:
    """To be awaited."""
    return State.END


@task
def plain_task(store: KeyValueStore) -> State:
    """Not to be awaited."""
    return State.END


async def forgets(kernel: Kernel, store: KeyValueStore) -> State:
    """Starts nothing."""
    flow.orchestrate({})  # E: unused-coroutine
    kernel.run(flow)  # E: unused-coroutine
    kernel.start(flow)  # E: unused-coroutine
    kernel.signal("run", "go")  # E: unused-coroutine
    ConcurrentWorkflow(flow).execute_concurrent([])  # E: unused-coroutine
    fetch_task(store)  # E: unused-coroutine
    fetch_task.run(store)  # E: unused-coroutine
    state: State = flow.orchestrate({})  # E: assignment
    kernel.run(flow).state  # E: attr-defined
    handle = kernel.start(flow)
    handle.status()  # E: attr-defined
    async with Kernel().run(flow):  # E: attr-defined
        pass
    with Kernel():  # E: attr-defined
        pass
    await plain_task(store)  # E: misc
    return fetch(store)  # E: return-value


def forgets_too(store: KeyValueStore) -> State:
    """Hands on a promise for a state."""
    return fetch_task(store)  # E: return-value


class NotAsync(Task[State]):
    """A plain method where a coroutine is called for."""

    def run(self, store: KeyValueStore) -> State:  # E: override
        """Do it."""
        return State.END


class PlainNode(Node[State, int, int]):
    """Plain phases."""

    def prep(self, store: KeyValueStore) -> int:  # E: override
        """Do it."""
        return 1

    async def exec(self, prepared: int) -> int:
        """Do it."""
        return prepared

    async def post(self, store: KeyValueStore, prepared: int, result: int) -> State:
        """Do it."""
        return State.END
