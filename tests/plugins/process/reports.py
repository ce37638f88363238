"""Tasks that report of themselves, and workflows of them, for the tests."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cano import (
    JoinConfig,
    JoinStrategy,
    Kernel,
    KeyValueStore,
    Node,
    SubWorkflow,
    TaskConfig,
    Workflow,
    current_step,
    current_wait,
    wait_for,
)
from cano.testing import executor_calls
from cano_scheduler import nominal_time

CPU = TaskConfig(executor="cpu")


class Once:
    """A retry strategy that tries again at once, once."""

    uses_elapsed = False

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """No delay."""
        return 0.0 if attempt == 1 else None


RETRIED = TaskConfig(executor="cpu", retry=Once())


def emit(store: KeyValueStore) -> Any:
    """Emit items of two channels, some at once, and report progress."""
    step = current_step()
    for number in range(3):
        step.emit("x", [number], flush=number == 1)
        step.progress(number + 1, 3, "counting")
    step.emit("y", {"last": True})
    return "end"


def emit_and_hold(store: KeyValueStore) -> Any:
    """Emit an item at once, report progress twice, and wait for a file."""
    step = current_step()
    step.emit("x", "before")
    step.emit("x", "now", flush=True)
    step.progress(1, 2)
    step.progress(2, 2, "held")
    executor_calls.hold(os.fsencode(store.get("folder", str)))
    step.emit("x", "after")
    return "end"


def emit_and_fail(store: KeyValueStore) -> Any:
    """Emit items, and fail in the first attempt."""
    step = current_step()
    step.emit("x", f"stored by {step.attempt}", flush=True)
    step.emit("x", f"waits in {step.attempt}")
    if step.attempt == 1:
        raise ValueError("first")
    return "end"


def emit_and_die(store: KeyValueStore) -> Any:
    """Emit an item, and kill the first process that comes here once the item is stored."""
    mark = Path(store.get("folder", str), "killed")
    first = not mark.exists()
    current_step().emit("x", "first" if first else "second", flush=True)
    if first:
        mark.touch()
        executor_calls.hold(os.fsencode(store.get("folder", str)))
        os.kill(os.getpid(), signal.SIGKILL)
    return "end"


def emit_too_much(store: KeyValueStore) -> Any:
    """Emit in a channel whose name is too long."""
    current_step().emit("x" * 100_000, 1, flush=True)
    return "end"


def emit_unsendable(store: KeyValueStore) -> Any:
    """Emit an item that cannot be sent."""
    current_step().emit("x", os.scandir)


async def set_attributes(store: KeyValueStore) -> Any:
    """Set an attribute, and let another one follow its key again."""
    current_step().attributes["tenant"] = "acme"
    del current_step().attributes["size"]
    return "end"


def set_unknown(store: KeyValueStore) -> Any:
    """Set an attribute that the workflow does not declare."""
    current_step().attributes["tenent"] = "acme"


def set_wrong(store: KeyValueStore) -> Any:
    """Set an attribute to a value of another type."""
    current_step().attributes["size"] = "large"


async def begin_a_transaction(store: KeyValueStore) -> Any:
    """Begin a transaction, which is the run's."""
    async with current_step().transaction():
        pass


def use_the_kernel(store: KeyValueStore) -> Any:
    """Use the kernel of the run, which is not here."""
    current_step().run.kernel.active_plugins()  # type: ignore[attr-defined]


async def run_another(store: KeyValueStore) -> Any:
    """Execute a workflow of its own, with a kernel of this process."""
    async with Kernel() as kernel:
        store["inner"] = dict((await kernel.run(INNER, {"n": 1}, run_id="inner")).data)
    return "end"


def inner(store: KeyValueStore) -> Any:
    """Add one."""
    store["n"] += 1
    return "end"


INNER: Workflow[str] = Workflow("a", name="inner").register("a", inner).add_exit_state("end")


def ask_for_the_token(store: KeyValueStore) -> Any:
    """Wait for a signal that names the wait."""
    store["token"] = current_wait().token
    return wait_for("go", then="b", timeout=60, on_timeout="end")


def keep_payload(store: KeyValueStore) -> Any:
    """Keep the payload of the signal."""
    store["payload"] = current_step().payload
    return "end"


def tell_outcome(store: KeyValueStore) -> Any:
    """Tell what the split before did."""
    outcome = current_step().outcome
    store["outcome"] = [outcome.results, [str(error) for error in outcome.errors], outcome.timed_out]
    return "end"


def tell_error(store: KeyValueStore) -> Any:
    """Tell the error that led here, and its cause."""
    error = current_step().error
    assert error is not None
    store["error"] = [type(error).__name__, str(error), getattr(error, "attempts", None), repr(error.__cause__)]
    return "end"


def fail(store: KeyValueStore) -> Any:
    """Fail."""
    raise ValueError("it fails")


def work(store: KeyValueStore) -> Any:
    """Return a result."""
    return 4


def unsendable(store: KeyValueStore) -> Any:
    """Return what no other process can be sent."""
    return os.scandir


def tell_nominal_time(store: KeyValueStore) -> Any:
    """Tell what time the run is for."""
    store["nominal"] = str(nominal_time())
    return "end"


class Emits(Node[str, int, int]):
    """A node that emits in `exec`."""

    async def prep(self, store: KeyValueStore) -> int:
        """Emit, with the run."""
        current_step().emit("x", "prep", flush=True)
        return 1

    async def exec(self, prepared: int) -> int:
        """Emit, elsewhere, and fail in the first attempt."""
        step = current_step()
        step.emit("x", f"exec {step.attempt}", flush=True)
        if step.attempt == 1:
            raise ValueError("first")
        return 2

    async def post(self, store: KeyValueStore, prepared: int, result: int) -> str:
        """Emit, with the run."""
        current_step().emit("x", "post")
        return "end"


def flow_of(function: Callable[..., Any], config: TaskConfig = CPU) -> Workflow[str]:
    """A workflow with one step, in "a", or another one after a signal; it declares two attributes."""
    flow: Workflow[str] = Workflow(
        "a", name="reports", default_config=config, attributes={"tenant": str, "size": int}
    ).add_exit_state("end")
    return flow.register("a", function).register("b", keep_payload)


def after_a_split(branch: Callable[..., Any] = work) -> Workflow[str]:
    """A workflow whose second state tells the outcome of a split; its branches are executed with the run."""
    flow: Workflow[str] = Workflow("a", name="outcome").add_exit_state("end")
    flow.register_split("a", [branch, fail], JoinConfig(JoinStrategy.partial(1), "b"), config=TaskConfig.minimal())
    return flow.register("b", tell_outcome, config=CPU)


def after_an_error() -> Workflow[str]:
    """A workflow whose second state tells the error of the first."""
    flow: Workflow[str] = Workflow("a", name="error").add_exit_state("end")
    flow.register("a", fail, config=TaskConfig(retry=Once(), on_exhausted="b"))
    return flow.register("b", tell_error, config=CPU)


def of_a_parent() -> Workflow[str]:
    """A workflow whose child tells its nominal time."""
    child = flow_of(tell_nominal_time)
    flow: Workflow[str] = Workflow("a", name="parent").add_exit_state("end")
    return flow.register("a", SubWorkflow(child, outputs={"nominal": "nominal"}, then="end"))


async def use_a_thread(store: KeyValueStore) -> Any:
    """Emit from a thread."""
    await asyncio.to_thread(current_step().emit, "x", "thread")
    return "end"
