"""Backoff and trip: the scheduler calls a failing service less often, and stops after four failures.

    python examples/schedule_backoff.py

The virtual clock advances 25 minutes.
"""

import asyncio

from cano import Kernel, KeyValueStore, TaskConfig, Workflow
from cano.testing import VirtualClock
from cano_scheduler import Scheduler

up = False
flow: Workflow[str] = Workflow("ping", name="ping", default_config=TaskConfig.minimal()).add_exit_state("ok")


@flow.on("ping")
async def ping(store: KeyValueStore) -> str:
    if not up:
        raise ConnectionError("the service is down")
    return "ok"


async def main() -> None:
    global up
    clock = VirtualClock()
    async with Kernel(clock=clock) as kernel, Scheduler(kernel) as scheduler:
        scheduler.every("ping", flow, 60, backoff=90, trip_after=4)
        await clock.sleep(20 * 60)
        up = True
        info = await scheduler.status("ping")
        print(f"{info.state} after {info.failures} failures: {info.last_error}")
        await (await scheduler.trigger("ping")).result()
        await clock.sleep(5 * 60)
        for tick in await scheduler.history("ping"):
            minute = (tick.decided_us - 1_700_000_000_000_000) // 60_000_000
            print(f"minute {minute:2}: {tick.reason or tick.outcome} ({tick.kind})")


if __name__ == "__main__":
    asyncio.run(main())
