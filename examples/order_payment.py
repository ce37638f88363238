"""Kill this with kill -9 at any time and run it again: it resumes, and no item is paid for twice."""

import asyncio
import time
from typing import Literal

from cano import Kernel, KeyValueStore, Workflow, current_step

flow = Workflow("PAY", name="order").add_exit_state("DONE")


@flow.on("PAY")
def pay(store: KeyValueStore) -> Literal["PAY", "DONE"]:
    if items := store.get("items", list, []):
        with open("payments.txt", "a+") as provider:  # a payment provider that accepts each key once
            provider.seek(0)
            if current_step().idempotency_key not in provider.read().split():
                print(current_step().idempotency_key, items[0], file=provider)
        print("paid for", items.pop(0), flush=True)
        time.sleep(1)  # the worst moment for a crash: the item is paid for, but the step is not committed
    return "PAY" if items else "DONE"


async def main() -> None:
    async with Kernel(store="sqlite:///order.db") as kernel:
        print(await kernel.run(flow, {"items": ["lamp", "chair", "vase"]}, run_id="order-17"))


if __name__ == "__main__":
    asyncio.run(main())
