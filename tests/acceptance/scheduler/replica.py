"""One of several processes that run the same scheduler on one store. Started by the test, killed by it.

    python -m tests.acceptance.scheduler.replica STORE EFFECTS [drain]

It prints "ready", and a line for everything that it has decided. It stops when its standard input is closed. With
`drain` it decides nothing new: it lets all runs end, whoever has started them, prints "drained", and stops.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from enum import Enum, auto
from typing import Any, Literal

from cano import Kernel, KeyValueStore, Workflow, current_step, hookimpl
from cano_scheduler import Scheduler, Tick

INTERVAL = 0.1
LEASE = 1.0
POLL = 0.1
PLUGINS = ("memory", "msgspec", "scheduler", "sqlite", "postgres", "redis")


class State(Enum):
    """Two steps, so that there is something to be killed between."""

    WORK = auto()
    REPORT = auto()
    DONE = auto()


def flow_writing_to(path: str, name: str) -> Workflow[State]:
    """A workflow that takes down its run's id in a file, once in each of its steps."""
    flow: Workflow[State] = Workflow(State.WORK, name=name).add_exit_state(State.DONE)

    def take_down() -> None:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, f"{current_step().state.name} {current_step().run_id}\n".encode())  # one write: lines stay whole
        os.close(file)

    @flow.on(State.WORK)
    async def work(store: KeyValueStore) -> Literal[State.REPORT]:
        take_down()
        store["worked"] = store.get("worked", int, 0) + 1
        return State.REPORT

    @flow.on(State.REPORT)
    async def report(store: KeyValueStore) -> Literal[State.DONE]:
        take_down()
        store["reported"] = store.get("reported", int, 0) + 1
        return State.DONE

    return flow


def scheduler_on(kernel: Kernel, effects: str) -> Scheduler:
    """The scheduler that every process runs: one schedule for each way to treat what is missed or overlaps."""
    scheduler = Scheduler(kernel, poll=POLL, grace=0.3)
    scheduler.every("all", flow_writing_to(effects, "all"), INTERVAL, misfire="all", overlap="allow")
    scheduler.every("once", flow_writing_to(effects, "once"), INTERVAL, misfire="once", overlap="skip")
    scheduler.every("queue", flow_writing_to(effects, "queue"), INTERVAL, misfire="skip", overlap="queue", jitter=0.05)
    return scheduler


class Teller:
    """Prints what was decided here."""

    @hookimpl
    def cano_schedule_fired(self, tick: Tick) -> None:
        """On time."""
        say(tick)

    @hookimpl
    def cano_schedule_late(self, tick: Tick) -> None:
        """Late."""
        say(tick)

    @hookimpl
    def cano_schedule_skipped(self, tick: Tick) -> None:
        """Not at all."""
        say(tick)


def say(tick: Tick) -> None:
    """Print a tick as one line."""
    print(json.dumps([tick.schedule, tick.outcome, tick.reason, tick.nominal_us, tick.times]), flush=True)


def kernel_on(store: str, *plugins: Any) -> Kernel:
    """The kernel that every process has."""
    return Kernel(store=store, discover=False, plugins=(*PLUGINS, *plugins), lease=LEASE, poll=POLL)


async def run(store: str, effects: str) -> None:
    """Fire until standard input is closed."""
    async with kernel_on(store, Teller()) as kernel, scheduler_on(kernel, effects):
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def drain(store: str, effects: str) -> None:
    """Pause everything, and run until nothing is under way or waits."""
    async with kernel_on(store) as kernel:
        scheduler = scheduler_on(kernel, effects)
        for id in scheduler.ids():
            await scheduler.pause(id)
        async with scheduler:
            while any(info.running for info in await scheduler.list()):
                await kernel.clock.sleep(POLL)
        for id in scheduler.ids():
            await scheduler.resume(id)  # what was due meanwhile is decided by that
            await scheduler.pause(id)
        print("drained", flush=True)


if __name__ == "__main__":
    asyncio.run((drain if sys.argv[3:] == ["drain"] else run)(*sys.argv[1:3]))
