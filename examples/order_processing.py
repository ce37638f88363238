"""Order processing: validation, a warehouse that sometimes fails to answer, and a quality check that can reject work.

The example shows two kinds of repetition. Cano retries a failed call within its step, and a failed attempt changes
nothing in the store. Packing that fails the quality check is not an error: the workflow returns to an earlier state.
"""

import asyncio
from collections import Counter
from enum import Enum, auto
from random import Random
from typing import Literal

from cano import Kernel, Key, KeyValueStore, Node, Step, TaskConfig, Workflow, current_step, hookimpl
from cano_retry import Exponential


class State(Enum):
    VALIDATE = auto()
    PACK = auto()
    INSPECT = auto()
    HOLD = auto()
    SHIP = auto()
    SHIPPED = auto()
    REJECTED = auto()
    ON_HOLD = auto()


ITEMS = Key("items", dict[str, int])
PACKED = Key("packed", int)
DAMAGED = Key("damaged", int)
NOTE = Key("note", str)

STOCK = {"lamp": 20, "chair": 4, "vase": 9, "sofa": 1}
MAX_PACKINGS = 3

flow = Workflow(State.VALIDATE, name="order")
flow.add_exit_states([State.SHIPPED, State.REJECTED, State.ON_HOLD])


@flow.on(State.VALIDATE)
async def validate(store: KeyValueStore) -> Literal[State.PACK, State.REJECTED]:
    items = store.get(ITEMS, default={"lamp": 1})
    problems = [
        f"{count} x {name} ordered, {STOCK.get(name, 0)} in stock"
        for name, count in items.items()
        if not 1 <= count <= STOCK.get(name, 0)
    ]
    if problems or not items:
        store[NOTE] = "; ".join(problems) or "nothing ordered"
        return State.REJECTED
    store[ITEMS] = items
    return State.PACK


@flow.on(State.PACK)
class Pack(Node[State, dict[str, int], int]):
    # retry only errors that may be temporary
    config = TaskConfig(retry=Exponential(4, base_delay=0.01, retry_on=ConnectionError), on_exhausted=State.HOLD)

    async def prep(self, store: KeyValueStore) -> dict[str, int]:
        return store[ITEMS]

    async def exec(self, prepared: dict[str, int]) -> int:
        """Pack the pieces. Return how many were damaged."""
        # seeded by run, step and attempt, so that the script always gives the same results
        step = current_step()
        random = Random(f"{step.run_id} {step.seq} {step.attempt}")
        if "sofa" in prepared or random.random() < 0.3:
            raise ConnectionError("the warehouse does not answer")
        return sum(random.random() < 0.2 for _ in range(sum(prepared.values())))

    async def post(self, store: KeyValueStore, prepared: dict[str, int], result: int) -> Literal[State.INSPECT]:
        store[PACKED] = store.get(PACKED, default=0) + 1
        store[DAMAGED] = result
        return State.INSPECT


@flow.on(State.INSPECT)
async def inspect(store: KeyValueStore) -> Literal[State.SHIP, State.PACK, State.HOLD]:
    if store[DAMAGED] == 0:
        return State.SHIP
    return State.PACK if store[PACKED] < MAX_PACKINGS else State.HOLD


@flow.on(State.HOLD)
async def hold(store: KeyValueStore) -> Literal[State.ON_HOLD]:
    error = current_step().error
    store[NOTE] = f"{store[DAMAGED]} damaged in the last packing" if error is None else str(error.__cause__)
    return State.ON_HOLD


@flow.on(State.SHIP)
async def ship(store: KeyValueStore) -> Literal[State.SHIPPED]:
    # a carrier that knows this key sends the parcel once, even if this step is repeated
    store[NOTE] = f"parcel {current_step().idempotency_key}"
    return State.SHIPPED


class FailedCalls:
    """A plugin that counts failed attempts by order."""

    def __init__(self) -> None:
        self.by_order: Counter[str] = Counter()

    @hookimpl
    def cano_step_retrying(self, step: Step) -> None:
        self.by_order[step.run_id] += 1

    @hookimpl
    def cano_step_failed(self, step: Step) -> None:
        self.by_order[step.run_id] += 1


ORDERS: dict[str, dict[str, int]] = {
    "A-1": {"lamp": 1},
    "A-2": {"vase": 3, "lamp": 1},
    "A-3": {"chair": 5},
    "A-4": {"vase": 9, "lamp": 9},
    "A-5": {"piano": 1, "lamp": 0},
    "A-6": {"chair": 2, "lamp": 2},
    "A-7": {},
    "A-8": {"sofa": 1},
}


async def main() -> None:
    failed_calls = FailedCalls()
    async with Kernel(plugins=[failed_calls]) as kernel:
        runs = [kernel.run(flow, {"items": items}, run_id=order) for order, items in ORDERS.items()]
        results = await asyncio.gather(*runs)
    print("order  outcome   packed  failed calls  note")
    for result in results:
        packed, calls = result.data.get("packed", 0), failed_calls.by_order[result.run_id]
        print(f"{result.run_id:5}  {result.state.name:8}  {packed:6}  {calls:12}  {result.data['note']}")


if __name__ == "__main__":
    asyncio.run(main())
