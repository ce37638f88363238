"""The program that is killed: a run of some sixty steps, with payments, a split, retries and waits.

    python shop.py STORE RUN PROVIDER

prints a line for every transition that is committed, and the result at the end.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from enum import Enum
from pathlib import Path

from cano import (
    JoinConfig,
    JoinStrategy,
    Kernel,
    KeyValueStore,
    Step,
    TaskConfig,
    Workflow,
    current_step,
    hookimpl,
    sleep_until,
    wait_for,
)
from cano_retry import Fixed

ITEMS = 40


class Shop(Enum):
    """The states of an order."""

    PACK = 1
    PAY = 2
    SHIP = 3
    REST = 4
    ASK = 5
    DONE = 6


flow = Workflow(Shop.PACK, name="shop", default_config=TaskConfig(retry=Fixed(3, 0.0)))


@flow.on(Shop.PACK)
async def pack(store: KeyValueStore) -> Shop:
    """Pack one item; every seventh only at the second attempt."""
    item = store["packed"]
    store.append("items", item)
    store["packed"] = item + 1
    if item % 7 == 3 and current_step().attempt == 1:
        raise ConnectionError("the first attempt always fails here")
    if item + 1 == ITEMS:
        return Shop.ASK
    return {4: Shop.PAY, 6: Shop.SHIP, 8: Shop.REST}.get(item % 10, Shop.PACK)


@flow.on(Shop.PAY)
def pay(store: KeyValueStore) -> Shop:
    """Charge a card: an outside effect, which may happen more than once under one key."""
    charge(current_step().idempotency_key)
    store["paid"] = store["paid"] + 1
    return Shop.PACK


def charge(key: str) -> None:
    """What the provider keeps: a line per call, appended at once."""
    line = os.open(sys.argv[3], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(line, f"{key}\n".encode())
    os.close(line)


async def left(store: KeyValueStore) -> str:
    """One branch of shipping."""
    store.append("shipped", "left")
    return "left"


async def right(store: KeyValueStore) -> str:
    """The other."""
    store.append("shipped", "right")
    return "right"


flow.register_split(Shop.SHIP, [left, right], JoinConfig(JoinStrategy.all(), Shop.PACK))


@flow.on(Shop.REST)
async def rest(store: KeyValueStore) -> Shop:
    """Wait a moment, in the store."""
    store["rests"] = store["rests"] + 1
    return sleep_until(time.time() + 0.02, then=Shop.PACK)


@flow.on(Shop.ASK)
async def ask(store: KeyValueStore) -> Shop:
    """Wait for a signal that may have come long ago."""
    return wait_for("approved", then=Shop.DONE)


flow.add_exit_state(Shop.DONE)


class Printer:
    """Says every transition, once it is committed."""

    @hookimpl
    def cano_transition_committed(self, step: Step) -> None:
        print("committed", step.seq, flush=True)


async def main(store: str, run_id: str) -> None:
    """Start the run, or go on with it, and say how it ended."""
    data = {"packed": 0, "paid": 0, "rests": 0}
    async with Kernel(store=store, plugins=[Printer()], poll=0.02) as kernel:
        handle = await kernel.start(flow, data, run_id=run_id)
        await kernel.signal(run_id, "approved", {"by": "Ada"}, id="once")
        print("started", flush=True)
        result = await handle.result()
    print("result", json.dumps([result.state.name, result.data]), flush=True)


if __name__ == "__main__":
    assert Path(sys.argv[3]).parent.is_dir()
    asyncio.run(main(sys.argv[1], sys.argv[2]))
