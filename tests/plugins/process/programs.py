"""Tasks and workflows that the tests execute in worker processes."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from cano import (
    JoinConfig,
    JoinStrategy,
    KeyValueStore,
    Node,
    TaskConfig,
    Workflow,
    current_step,
    sleep_until,
    task,
    wait_for,
)
from cano.testing import executor_calls

CPU = TaskConfig(executor="cpu")


class State(Enum):
    """The states of the workflows."""

    WORK = "work"
    NEXT = "next"
    DONE = "done"


@dataclass
class Order:
    """A value with a class of its own."""

    number: int
    lines: list[str] = field(default_factory=list)


class OddError(Exception):
    """An error that is made of other arguments than it keeps."""

    def __init__(self, number: int, *, hint: str) -> None:
        super().__init__(f"odd: {number}")
        self.number = number
        self.hint = hint


class UnsendableError(Exception):
    """An error with an argument that cannot be sent."""


def work(store: KeyValueStore) -> Any:
    """Do what the store says, and tell of this process and step."""
    step = current_step()
    store["told"] = [
        os.getpid() != store["parent"], step.run_id, step.workflow, step.state, step.seq, step.attempt, step.branch,
        step.idempotency_key, step.task, threading.current_thread() is threading.main_thread(),
    ]  # fmt: skip
    action: Callable[[KeyValueStore], Any] = ACTIONS[store.get("does", str)]
    return action(store)


def write(store: KeyValueStore) -> Any:
    """Change the data in each way."""
    order = store.get("order", Order)
    order.lines.append("changed in place")
    store["made"] = Order(order.number + 1)
    store.append("list", 3)
    store.append("new list", "first")
    del store["old"]
    return State.DONE


def hold(store: KeyValueStore) -> Any:
    """Tell that it began, and wait for a file."""
    executor_calls.hold(os.fsencode(store.get("folder", str)))
    return State.DONE


def raise_odd(store: KeyValueStore) -> Any:
    """Raise an error with attributes."""
    store["lost"] = True
    raise OddError(7, hint="look")


def raise_unsendable(store: KeyValueStore) -> Any:
    """Raise an error whose argument cannot be sent."""
    raise UnsendableError("it has", threading.Lock())


def raise_local(store: KeyValueStore) -> Any:
    """Raise an error of a class that no other process can import."""

    class LocalError(Exception):
        pass

    raise LocalError("made here")


def leave(store: KeyValueStore) -> Any:
    """Leave the program."""
    raise SystemExit(3)


def return_unsendable(store: KeyValueStore) -> Any:
    """Write a value that cannot be sent."""
    store["lock"] = threading.Lock()
    return State.DONE


def cancel_itself(store: KeyValueStore) -> Any:
    """Raise the error of a cancellation that nothing asked for."""
    raise asyncio.CancelledError


def look_for_children(store: KeyValueStore) -> Any:
    """Use a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        store["doubled"] = pool.map(double, [4])
    return State.DONE


def double(number: int) -> int:
    """Return twice the number."""
    return 2 * number


def tell_deadline(store: KeyValueStore) -> Any:
    """Tell how long the attempt may still take."""
    deadline = current_step().deadline
    store["left"] = None if deadline is None else deadline - time.monotonic()
    return State.DONE


def die_twice(store: KeyValueStore) -> Any:
    """Kill the process, unless two were killed before."""
    lives = Path(store.get("folder", str), "lives")
    with lives.open("a") as file:
        file.write("x")
    if len(lives.read_text()) < 3:
        os.kill(os.getpid(), signal.SIGKILL)
    store["attempt"] = current_step().attempt
    return State.DONE


ACTIONS: dict[str, Callable[[KeyValueStore], Any]] = {
    "write": write, "hold": hold, "odd": raise_odd, "unsendable": raise_unsendable, "local": raise_local,
    "leave": leave, "return unsendable": return_unsendable, "cancel": cancel_itself, "children": look_for_children,
    "deadline": tell_deadline, "die twice": die_twice,
    "finish": lambda store: State.DONE,
    "wait": lambda store: wait_for("go", then=State.NEXT, timeout=60, on_timeout=State.DONE),
    "sleep": lambda store: sleep_until(1, then=State.NEXT),
}  # fmt: skip


def add(order: Order, store: KeyValueStore, more: list[int]) -> Any:
    """Write the arguments of a partial."""
    store["sum"] = [order, more, current_step().attempt > 1]
    return State.DONE


async def leave_a_task(store: KeyValueStore) -> Any:
    """Leave a task behind that would write a file if anything executed it."""
    folder = store.get("folder", str)

    async def later() -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        os.mkdir(os.path.join(folder, "left"))

    asyncio.get_running_loop().create_task(later())
    return State.DONE


@task(config=CPU)
def answered(store: KeyValueStore) -> Any:
    """Keep the payload of the signal."""
    store["payload"] = current_step().payload
    return State.DONE


def flow(function: Any = work, config: TaskConfig = CPU) -> Workflow[State]:
    """A workflow of one task, and one that follows a wait."""
    made: Workflow[State] = Workflow(State.WORK, name="work", types=[Order], default_config=config)
    return made.register(State.WORK, function).register(State.NEXT, answered).add_exit_state(State.DONE)


class Multiply(Node[State, Order, Order]):
    """A node whose `exec` is executed elsewhere."""

    def __init__(self, factor: int, config: TaskConfig = CPU) -> None:
        super().__init__(config)
        self.factor = factor

    async def prep(self, store: KeyValueStore) -> Order:
        """Read."""
        store["prepared by"] = os.getpid()
        return store.get("order", Order)

    async def exec(self, prepared: Order) -> Order:
        """Multiply."""
        return Order(prepared.number * self.factor, [current_step().phase or "", str(os.getpid())])

    async def post(self, store: KeyValueStore, prepared: Order, result: Order) -> State:
        """Write."""
        store["order"] = result
        return State.DONE


class Fallback(Multiply):
    """A node whose `exec` always fails."""

    async def exec(self, prepared: Order) -> Order:
        """Fail."""
        raise OddError(prepared.number, hint="fall back")

    async def exec_fallback(self, prepared: Order, error: Exception) -> Order:
        """Use the error."""
        assert isinstance(error, OddError)
        return Order(error.number, [error.hint])


async def left(store: KeyValueStore) -> Any:
    """A branch."""
    store["left"] = [os.getpid(), current_step().branch]
    return None


def right(store: KeyValueStore) -> Any:
    """A branch that reads what the other one writes, or not."""
    store["right"] = [os.getpid(), store.get("left", default=None)]


def both(store: KeyValueStore) -> Any:
    """A branch that writes what `left` writes."""
    store["left"] = store.get("left", default=0)


def split(*branches: Any) -> Workflow[State]:
    """A workflow of one split."""
    made: Workflow[State] = Workflow(State.WORK, name="split")
    join = JoinConfig(JoinStrategy.all(), State.DONE)
    return made.register_split(State.WORK, list(branches), join, config=CPU).add_exit_state(State.DONE)
