"""A service that starts 100 runs, of which 90 end; on SIGTERM it closes its kernel. Arguments: none.

The environment selects the exporters.
"""

from __future__ import annotations

import asyncio
import signal
from typing import Any

from cano import Kernel, KeyValueStore, Workflow

RUNS, HANGING = 100, 10


async def main() -> None:
    """Start all runs, print "ready" when the 90 have ended, and wait for SIGTERM."""
    stop, never = asyncio.Event(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    all_begun = asyncio.Event()
    begun = 0
    flow = Workflow("a", name="service").add_exit_state("done")

    @flow.on("a")
    async def a(store: KeyValueStore) -> Any:
        nonlocal begun
        begun += 1
        if begun == RUNS:
            all_begun.set()
        if store["number"] < HANGING:
            await never.wait()
        return "done"

    async with Kernel(discover=False, plugins=["memory", "otel"], grace=0) as kernel:
        handles = [await kernel.start(flow, {"number": number}) for number in range(RUNS)]
        await all_begun.wait()
        await asyncio.gather(*(handle.result() for handle in handles[HANGING:]))
        print("ready", flush=True)
        await stop.wait()
        print("stopping", flush=True)
    print("stopped", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
