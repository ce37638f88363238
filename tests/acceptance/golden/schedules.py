"""The schedules of the golden data. Never change one: the stores hold their definitions."""

from __future__ import annotations

from datetime import UTC, datetime

from cano import Kernel
from cano_scheduler import Scheduler

from tests.acceptance.golden import flows
from tests.acceptance.golden.times import HOUR


def scheduler_on(kernel: Kernel) -> Scheduler:
    """Return a scheduler with all schedules, for writing and reading."""
    scheduler = Scheduler(kernel)
    first = datetime(2026, 1, 2, tzinfo=UTC)
    scheduler.every("hourly", flows.report, HOUR, first=first, data={"author": "Ada"}, misfire="once")
    scheduler.cron("daily", flows.report, "0 9 * * *", tz="Europe/Berlin", data={"author": "Ada"}, misfire="skip")
    scheduler.every("paused", flows.report, HOUR, first=first, data={"author": "Ada"}, misfire="skip")
    scheduler.on("asked", flows.approval, "ask", overlap="queue")
    scheduler.on("written", flows.report, "write")
    scheduler.on("batch", flows.report, "write many", instances=2)
    scheduler.on("paid", flows.payment, "pay", trip_after=1)
    return scheduler
