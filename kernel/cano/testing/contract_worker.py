"""A program that works on a store as a process of a clause of the contract.

    python -m cano.testing.contract_worker URL NAME JOB COUNT

It opens the store, prints `ready`, waits for a line, and does its job. It prints a line for each change, after the
store has acknowledged it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence

from cano.errors import ConflictError
from cano.protocols import StoreBackend
from cano.signals import Signal
from cano.testing.contract_base import LATER, NOW, endless, installed_backend, new_run, step, value, values


async def create(store: StoreBackend, name: str, count: int) -> AsyncIterator[str]:
    """Create `count` runs that other workers create, too. Yield the ids of those that are new."""
    for number in range(count):
        run = new_run(f"run {number}", holder=name, data=values(store, by=name))
        if (await store.create(run)).holder == name:
            yield run.run_id


async def claim(store: StoreBackend, name: str, count: int) -> AsyncIterator[str]:
    """Claim `count` runs that other workers claim, too. Yield the ids of those that were claimed."""
    for number in range(count):
        if await store.claim(f"run {number}", name, NOW, LATER) is not None:
            yield f"run {number}"


async def reclaim(store: StoreBackend, name: str, count: int) -> AsyncIterator[str]:
    """Claim one run `count` times, each time with a lease that expires at once. Yield the tokens."""
    for _ in range(count):
        yield str(await store.claim("run", name, LATER + 1, LATER))


async def race(store: StoreBackend, name: str, count: int) -> AsyncIterator[str]:
    """Commit the run's next transition, as other workers do, until it has `count`. Yield those that were accepted."""
    while (run := await store.load("run")) is not None and run.seq < count:
        try:
            await store.commit(step(run.seq + 1, changed=values(store, by=name, seq=run.seq + 1)))
        except ConflictError:
            continue
        yield str(run.seq + 1)


async def stream(store: StoreBackend, name: str, count: int) -> AsyncIterator[str]:
    """Commit up to `count` transitions, each of which consumes a signal. Yield each seq."""
    token = await store.claim("run", name, LATER + 1, LATER)
    run = await store.load("run")
    assert token is not None
    assert run is not None
    for seq in range(run.seq + 1, run.seq + count + 1):
        await store.put_signal("run", Signal(str(seq), "go", value(store, seq)))
        await store.commit(endless(store, seq, token))
        yield str(seq)


JOBS = {job.__name__: job for job in (create, claim, reclaim, race, stream)}


async def work(store: StoreBackend, name: str, job: str, count: int) -> None:
    """Open `store`, wait for the start, and do the job."""
    await store.open()
    try:
        print("ready", flush=True)
        sys.stdin.readline()  # blocks the event loop, which is idle
        async for done in JOBS[job](store, name, count):
            print(done, flush=True)
    finally:
        await store.close()


def main(arguments: Sequence[str], open_backend: Callable[[str], StoreBackend] = installed_backend) -> None:
    """Execute the job that the command line names.

    Args:
        arguments: URL NAME JOB COUNT.
        open_backend: makes a backend for the URL.
    """
    url, name, job, count = arguments
    asyncio.run(work(open_backend(url), name, job, int(count)))


if __name__ == "__main__":
    main(sys.argv[1:])
