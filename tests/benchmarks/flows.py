"""What is run: a ring of three states, by the engine and by the loop that one would write by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import Enum
from itertools import pairwise
from typing import Any

from cano import Task, TaskConfig, Workflow


class State(Enum):
    """The ring, and the way out."""

    ONE = 1
    TWO = 2
    THREE = 3
    DONE = 4


RING = (State.ONE, State.TWO, State.THREE)
Handler = Callable[[Any], Awaitable[State]]
Handlers = Mapping[State, Handler]


async def by_hand(handlers: Mapping[Any, Any], store: Any, start: Any = State.ONE, done: Any = State.DONE) -> Any:
    """The hand-written loop that everything is compared with."""
    state, exits = start, {done}
    while state not in exits:
        state = await handlers[state](store)
    return state


def flow(handlers: Mapping[Any, Any], config: TaskConfig | None = None, done: Any = State.DONE) -> Workflow[Any]:
    """The same as a workflow."""
    made = Workflow[Any](next(iter(handlers)), default_config=config)
    for state, handler in handlers.items():
        made.register(state, handler)
    return made.add_exit_state(done)


def rounds(steps: int, again: Any = State.ONE, done: Any = State.DONE) -> Callable[[], Any]:
    """Where the third state leads: on, until so many steps are made, then out; and from the start again."""
    made = 0

    def onwards() -> Any:
        nonlocal made
        made += 3
        if made < steps:
            return again
        made = 0
        return done

    return onwards


def no_ops(steps: int) -> Handlers:
    """Tasks that do nothing."""
    onwards = rounds(steps)

    async def one(store: Any) -> State:
        return State.TWO

    async def two(store: Any) -> State:
        return State.THREE

    async def three(store: Any) -> Any:
        return onwards()

    return dict(zip(RING, (one, two, three), strict=True))


def plain_no_ops(steps: int, states: Sequence[Any]) -> Mapping[Any, Any]:
    """The same, where the states are three strings or numbers, and one for the way out."""
    first, second, third, done = states
    onwards = rounds(steps, first, done)

    async def one(store: Any) -> Any:
        return second

    async def two(store: Any) -> Any:
        return third

    async def three(store: Any) -> Any:
        return onwards()

    return {first: one, second: two, third: three}


def chain(length: int) -> Mapping[Any, Any]:
    """Return `length` handlers of states that do nothing, each leading to the next; the last one leads to "done"."""

    def to(state: str) -> Callable[[Any], Awaitable[str]]:
        async def step(store: Any) -> str:
            return state

        return step

    states = [*(f"state {number}" for number in range(length)), "done"]
    return {state: to(following) for state, following in pairwise(states)}


def counters(steps: int) -> Handlers:
    """Tasks that get and put one key."""
    onwards = rounds(steps)

    async def one(store: Any) -> State:
        store.put("n", store.get("n") + 1)
        return State.TWO

    async def two(store: Any) -> State:
        store.put("n", store.get("n") + 1)
        return State.THREE

    async def three(store: Any) -> Any:
        store.put("n", store.get("n") + 1)
        return onwards()

    return dict(zip(RING, (one, two, three), strict=True))


def yielding() -> Handlers:
    """Three tasks that let others run, so that runs are really under way side by side."""

    def to(state: State) -> Handler:
        async def step(store: Any) -> State:
            await asyncio.sleep(0)
            return state

        return step

    return {State.ONE: to(State.TWO), State.TWO: to(State.THREE), State.THREE: to(State.DONE)}


def waiting(gate: asyncio.Event) -> Handlers:
    """One task that waits, and two that follow."""

    async def wait(store: Any) -> State:
        await gate.wait()
        return State.TWO

    return {**yielding(), State.ONE: wait}


class Branch(Task[str]):
    """A branch that does nothing."""

    async def run(self, store: Any) -> str:
        """Nothing."""
        return "ok"
