"""Workflows that `survives_crashes` kills, in tests."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import sys
import time
from dataclasses import dataclass
from typing import Any

from cano import (
    JoinConfig,
    JoinStrategy,
    Node,
    SubWorkflow,
    TaskConfig,
    Workflow,
    current_step,
    sleep_until,
    wait_for,
)


class Thrice:
    """Three attempts, hours apart."""

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """Two hours."""
        return 7200.0 if attempt < 3 else None


@dataclass
class Receipt:
    """What a payment gives."""

    key: str
    amount: float


def straight(*steps: Any, **options: Any) -> Workflow[Any]:
    """Steps one after the other, in states named for them, then "end"."""
    names = [*(step.__name__ for step in steps), "end"]
    flow: Workflow[Any] = Workflow(names[0], **{"name": "straight", **options})
    for step, following in zip(steps, names[1:], strict=True):

        async def task(store: Any, step: Any = step, following: str = following) -> Any:
            result = await step(store)
            return following if result is None else result

        task.__name__ = step.__name__
        flow.register(step.__name__, task)
    return flow.add_exit_state("end")


# one that survives


async def order(store: Any) -> None:
    """Keep things with types."""
    store["receipts"] = [Receipt(current_step().idempotency_key, 1.5)]
    store["nan"] = math.nan


async def approve(store: Any) -> Any:
    """Wait for a person."""
    return wait_for("approved", then="pay")


async def pay(store: Any) -> None:
    """Fail twice, hours apart, and keep the payload."""
    if current_step().attempt < 3:
        raise ConnectionError("try later")
    store["by"] = current_step().payload


async def rest(store: Any) -> Any:
    """Sleep for a month."""
    return sleep_until(time.time() + 30 * 86400, then="end")


async def left(store: Any) -> int:
    """A branch."""
    store.append("log", "left")
    return 1


async def right(store: Any) -> int:
    """Another."""
    store.append("log", "right")
    return 2


async def joined(store: Any) -> str:
    """Keep what they returned."""
    store["sum"] = sum(current_step().outcome.results)
    return "child"


class Double(Node[str, int, int]):
    """The child's only step."""

    async def prep(self, store: Any) -> int:
        """Read."""
        return int(store["n"])

    async def exec(self, prepared: int) -> int:
        """Double it."""
        return prepared * 2

    async def post(self, store: Any, prepared: int, result: int) -> str:
        """Write."""
        store["n"] = result
        return "done"


child = Workflow("double", name="child").register("double", Double()).add_exit_state("done")

everything = straight(order, approve, pay, rest, default_config=TaskConfig(retry=Thrice()), types=[Receipt])
parts = Workflow("split", name="parts").register("joined", joined).add_exit_state("end")
parts.register_split("split", [left, right], JoinConfig(JoinStrategy.all(), "joined"))
parts.register("child", SubWorkflow(child, {"sum": "n"}, {"n": "doubled"}, then="end"))


async def ask(store: Any) -> Any:
    """Wait, in a child."""
    return sleep_until(time.time() + 86400, then="answered")


async def answered(store: Any) -> str:
    """Sleep a second time, if it was the first; then end."""
    store["naps"] = store.get("naps", int, default=0) + 1
    return "ask" if store["naps"] < 2 else "end"


sleeper = Workflow("ask", name="sleeper").register("ask", ask).register("answered", answered).add_exit_state("end")
middle = Workflow("call", name="middle").add_exit_state("end")
middle.register("call", SubWorkflow(sleeper, outputs={"naps": "naps"}, then="end"))
family = Workflow("call", name="family").add_exit_state("end")
family.register("call", SubWorkflow(middle, outputs={"naps": "naps"}, then="end"))


async def breaks(store: Any) -> Any:
    """Fail for good."""
    raise ValueError("for good")


async def nothing(store: Any) -> None:
    """Do nothing."""


failing = straight(nothing, breaks, default_config=TaskConfig.minimal())


async def tidy(store: Any) -> str:
    """Keep the error that led here."""
    store["because"] = str(current_step().error)
    return "end"


exhausted = Workflow("breaks", name="exhausted").add_exit_state("end").register("tidy", tidy)
exhausted.register("breaks", breaks, config=TaskConfig(on_exhausted="tidy"))


# some that do not

counter = 0


async def count(store: Any) -> None:
    """Count in a global, which dies with the process."""
    global counter
    counter += 1
    store.append("counts", counter)


async def count_again(store: Any) -> None:
    """Once more."""
    await count(store)


in_memory = straight(count, count_again)


def provide(line: str) -> None:
    """What a provider keeps."""
    with open(os.environ["CANO_TEST_PROVIDER"], "a") as provider:
        provider.write(line + "\n")


async def charge(store: Any) -> None:
    """An effect on the outside, without regard to the idempotency key."""
    provide("charged")


charging = straight(nothing, charge)


async def charge_once(store: Any) -> None:
    """The same, with the key."""
    provide(current_step().idempotency_key)


charging_once = straight(nothing, charge_once)


async def gives_up(store: Any) -> None:
    """End the process."""
    print("giving up", file=sys.stderr, flush=True)
    os._exit(3)


exiting = straight(nothing, gives_up)


async def hang(store: Any) -> None:
    """Stop the whole process."""
    os.kill(os.getpid(), signal.SIGSTOP)


hanging = straight(hang)


async def wait_for_ever(store: Any) -> None:
    """Wait for what never comes."""
    await asyncio.Event().wait()


endless = straight(wait_for_ever)

READY = asyncio.Event()


async def sets(store: Any) -> str:
    """A branch that lets the other one go on."""
    READY.set()
    return "set"


async def waits(store: Any) -> str:
    """A branch that waits for the other one."""
    await READY.wait()
    await current_step().run.kernel.clock.sleep(60)  # by then the other one is stored
    return "waited"


siblings = Workflow("split", name="siblings", default_config=TaskConfig.minimal()).add_exit_state("end")
siblings.register_split("split", [sets, waits], JoinConfig(JoinStrategy.all(), "end"))


def made() -> Workflow[Any]:
    """A workflow that a function makes."""
    return straight(nothing)
