"""Cron in a time zone: schedules at 01:30 and 02:30 on the days of a daylight-saving change.

    python examples/schedule_time_zone.py [ZONE]

A virtual clock passes both changes of 2026 in New York.
"""

import asyncio
import sys
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from cano import Kernel, KeyValueStore, Workflow
from cano.testing import VirtualClock
from cano_scheduler import Scheduler, nominal_time

flow: Workflow[str] = Workflow("work", name="report").add_exit_state("done")


@flow.on("work")
async def work(store: KeyValueStore) -> str:
    when = nominal_time()
    assert when is not None
    print(f"  {store['name']}: {when.astimezone(ZoneInfo(store['zone'])):%a %H:%M %Z}")
    return "done"


async def change_day(zone: str, begin: datetime) -> None:
    print(f"{begin:%d %B %Y}")
    clock = VirtualClock(begin.timestamp())
    async with Kernel(clock=clock) as kernel, Scheduler(kernel) as scheduler:

        def data(name: str) -> dict[str, str]:
            return {"name": name, "zone": zone}

        scheduler.cron("1", flow, "30 2 * * *", tz=zone, data=data("02:30, classic"))
        scheduler.cron("2", flow, "30 2 * * *", tz=zone, data=data("02:30, shifted"), gap="shift")
        scheduler.cron("3", flow, "30 2 * * *", tz=zone, data=data("02:30, skipped"), gap="skip")
        scheduler.cron("4", flow, "30 1 * * *", tz=zone, data=data("01:30, classic"))
        scheduler.cron("5", flow, "30 1 * * *", tz=zone, data=data("01:30, both"), fold="both")
        await clock.sleep(20 * 3600)


async def main(zone: str) -> None:
    for month, day in ((3, 8), (11, 1)):
        await change_day(zone, datetime(2026, month, day, 4, tzinfo=UTC))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if sys.argv[1:] else "America/New_York"))
