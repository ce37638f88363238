"""Graceful shutdown: on SIGTERM the scheduler starts no new run and gives active runs two seconds to end.

python examples/schedule_shutdown.py           # then kill -TERM it, or press Ctrl-C
"""

import asyncio
import os
import signal

from cano import Kernel, KeyValueStore, Workflow
from cano_scheduler import Scheduler

flow: Workflow[str] = Workflow("copy", name="backup").add_exit_state("done")


@flow.on("copy")
async def copy(store: KeyValueStore) -> str:
    print(f"copying {store['what']}", flush=True)
    try:
        await asyncio.sleep(store.get("seconds", float))
    except asyncio.CancelledError:
        print(f"cancelled: {store['what']}")
        raise
    print(f"copied {store['what']}")
    return "done"


async def main() -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Kernel() as kernel:
        scheduler = Scheduler(kernel, stop_timeout=2)
        scheduler.every("small", flow, 3600, data={"what": "the small disk", "seconds": 1.0})
        scheduler.every("large", flow, 3600, data={"what": "the large disk", "seconds": 3600.0})
        async with scheduler:
            print(f"running as process {os.getpid()}", flush=True)
            await stop.wait()
            print("stopping")
        for info in await scheduler.list():
            print(f"{info.id}: {info.run_count} run, {info.cancelled} cancelled, {info.failures} failed")


if __name__ == "__main__":
    asyncio.run(main())
