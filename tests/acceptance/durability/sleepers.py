"""A worker that takes over sleeping runs, slowly: `python -m tests.acceptance.durability.sleepers URL PIPE UNTIL`.

It says on its stdout when it watches, and works until its stdin is closed. To the pipe it writes a line for each body
that it begins, each run that ends and each renewal: what, its process, the run, and seconds that all processes share.
A thread of it writes a line when the machine has let the process stand still for long: since when, in place of the run.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from cano import Kernel, KeyValueStore, Run, StoreBackend, Workflow, current_step, hookimpl, sleep_until

LEASE = 2.0 if os.environ.get("CANO_SOAK") else 5.0
"""Seconds. A machine that runs other tests beside this one stops a process for longer than this test does."""
CLAIM = 0.01
"""Seconds that each claim takes longer, as over a network."""
BODY = 0.02
"""Seconds that a body takes."""
STALL = LEASE / 2
"""Seconds. A process that stands still for longer may lose its leases."""


class Worker:
    """The workflow, and the observer of its ends.

    Args:
        pipe: the file to write to.
        until: wall-clock seconds at which all runs wake.
    """

    def __init__(self, pipe: str, until: float) -> None:
        self._pipe = os.open(pipe, os.O_WRONLY)
        self._until = until
        self.flow = Workflow("asleep", name="sleeper").add_exit_state("end")
        self.flow.register("asleep", self.asleep).register("work", self.work)

    def say(self, what: str, run_id: str) -> None:
        """Write a line. Lines this short are not mixed up with those of others."""
        os.write(self._pipe, f"{what} {os.getpid()} {run_id} {time.monotonic()}\n".encode())

    async def asleep(self, store: KeyValueStore) -> str:
        """Wait for the moment."""
        return sleep_until(self._until, then="work")

    async def work(self, store: KeyValueStore) -> str:
        """Work for a moment."""
        self.say("begun", current_step().run_id)
        await asyncio.sleep(BODY)
        return "end"

    @hookimpl
    def cano_run_finished(self, run: Run) -> None:
        """Tell which runs have succeeded."""
        self.say(run.status.value, run.run_id)


def watch(worker: Worker, ended: threading.Event) -> None:
    """Tell when this process has stood still for long."""
    before = time.monotonic()
    while not ended.wait(STALL / 10):
        now = time.monotonic()
        if now - before > STALL:
            worker.say("stalled", str(before))
        before = now


def slow(backend: StoreBackend) -> None:
    """Let each claim take its time."""
    claim, anything = backend.claim, backend.__dict__

    async def slowly(*arguments: Any) -> int | None:
        await asyncio.sleep(CLAIM)
        return await claim(*arguments)

    anything["claim"] = slowly


def reporting(backend: StoreBackend, worker: Worker) -> None:
    """Let the worker tell each renewal of its leases."""
    renew, anything = backend.renew, backend.__dict__

    async def told(*arguments: Any) -> Sequence[str]:
        lost = await renew(*arguments)
        worker.say("renewed", "-")
        return lost

    anything["renew"] = told


async def main(url: str, pipe: str, until: str) -> None:
    """Watch until told to stop."""
    worker, ended = Worker(pipe, float(until)), threading.Event()
    watching = threading.Thread(target=watch, args=(worker, ended))
    watching.start()
    async with Kernel(store=url, lease=LEASE, poll=0.1, grace=0, plugins=[worker]) as kernel:
        assert kernel.backend is not None
        slow(kernel.backend)
        reporting(kernel.backend, worker)
        await kernel.recover(worker.flow)
        print("watching", flush=True)
        await asyncio.to_thread(sys.stdin.read)
    ended.set()
    watching.join()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
