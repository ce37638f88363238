"""A concurrent batch per tick: every half second, ask four mirrors at once and use the first two answers.

python examples/schedule_batch.py
"""

import asyncio

from cano import Kernel, KeyValueStore, TaskConfig, WaitStrategy, Workflow
from cano_scheduler import Scheduler

flow: Workflow[str] = Workflow("ask", name="mirror", default_config=TaskConfig.minimal()).add_exit_state("answered")


@flow.on("ask")
async def ask(store: KeyValueStore) -> str:
    await asyncio.sleep(store.get("seconds", float))
    if store["name"] == "broken":
        raise ConnectionError("no answer")
    print(f"{store['name']} answered about {store['path']}")
    return "answered"


MIRRORS = [
    {"name": "near", "seconds": 0.05},
    {"name": "broken", "seconds": 0.01},
    {"name": "far", "seconds": 0.1},
    {"name": "asleep", "seconds": 60.0},
]


async def main() -> None:
    async with Kernel() as kernel:
        scheduler = Scheduler(kernel)
        wait = WaitStrategy.quota(2)
        scheduler.every("mirrors", flow, 0.5, data={"path": "index.html"}, instances=MIRRORS, wait=wait)
        async with scheduler:
            await asyncio.sleep(0.9)
        info = await scheduler.status("mirrors")
        print(f"{info.run_count} batches, {info.failures} failed runs, {info.streak} failed batches in a row")


if __name__ == "__main__":
    asyncio.run(main())
