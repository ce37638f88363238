"""News of another process on every store: with an hour between two polls, nothing else can wake a run in time."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from cano import Kernel, NotifyingStore, RunCancelledError, RunRecord, RunStatus, Workflow

from tests.acceptance.durability.test_parked_parents import asks, calls

pytestmark = pytest.mark.slow

HOUR = 3600.0


async def hang(store: Any) -> str:
    """Say that it is executed, and never end."""
    print("hangs", flush=True)
    await asyncio.Event().wait()
    return "DONE"


hangs: Workflow[Any] = Workflow("HANG", name="hangs").register("HANG", hang).add_exit_state("DONE")
parent = calls("parent", asks, "answer")
PROGRAM = """
import asyncio, sys
from cano import Kernel
from tests.acceptance.durability.test_news import HOUR, asks, hangs, parent

async def main():
    async with Kernel(store=sys.argv[1], poll=HOUR, grace=0) as kernel:
        {}
        print("end", flush=True)

asyncio.run(main())
"""


@asynccontextmanager
async def process(url: str, does: str) -> AsyncIterator[Callable[[], Any]]:
    """Another process with a kernel on the store; the function returns its next line."""
    program = PROGRAM.format(does)
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-c", program, url, stdout=asyncio.subprocess.PIPE
    )
    assert other.stdout is not None
    stdout = other.stdout

    async def line() -> str:
        return (await stdout.readline()).decode().strip()

    try:
        yield line
    finally:
        if other.returncode is None:
            other.kill()
        await other.wait()


WAITS = """
        handle = await kernel.start({}, {{}}, run_id="r")
        {}
        print("started", flush=True)
        try:
            print((await handle.result()).data, flush=True)
        except Exception as error:
            print(type(error).__name__, flush=True)"""
PARKED = """
        while (await kernel.runs())[0].status.name != "PARKED":
            await asyncio.sleep(0)"""


async def test_a_signal_and_the_end_of_a_child(store_url: str) -> None:
    """A signal to a parked child wakes it in the process that parked it; its end wakes the parent."""
    async with process(store_url, WAITS.format("parent", PARKED)) as line:
        assert await line() == "started"
        async with Kernel(store=store_url, poll=HOUR) as kernel:
            await kernel.signal("r:1/asks", "answer", 42)
            assert await line() == "{'answer': 42}"
            assert await line() == "end"


async def test_the_end_of_another_process_run(store_url: str) -> None:
    """A caller that waits for a run of another process learns of its end; a recovering one, of a run left behind."""
    async with process(store_url, WAITS.format("asks", PARKED)) as line:
        assert await line() == "started"
        async with Kernel(store=store_url, poll=HOUR) as kernel, Kernel(store=store_url, poll=HOUR) as waiting:
            result = asyncio.ensure_future(waiting.run(asks, run_id="r"))
            await kernel.signal("r", "answer", 1)
            assert (await result).data == {"answer": 1}
    recovers = 'await kernel.recover(hangs); print("recovers", flush=True); await asyncio.Event().wait()'
    async with Kernel(store=store_url, poll=HOUR, grace=0) as kernel:
        await kernel.start(hangs, {}, run_id="left")
        async with process(store_url, recovers) as line:
            assert await line() == "recovers"
            await kernel.close()
            assert await line() == "hangs"


@pytest.mark.parametrize("way", ["run", "result", "events"])
async def test_an_end_before_the_first_notification(store_url: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller learns of an end between its first look at the run and the moment from which it is notified."""
    async with Kernel(store=store_url, poll=HOUR) as kernel, Kernel(store=store_url, poll=HOUR) as waiting:
        handle = await kernel.start(asks, {}, run_id="r")
        attached, backend = await waiting.attach("r"), waiting.backend
        assert isinstance(backend, NotifyingStore)
        read, reads = backend.load, list[RunRecord | None]()

        async def load(run_id: str) -> RunRecord | None:
            reads.append(await read(run_id))
            if len(reads) == 1:
                await kernel.signal("r", "answer", 1)
                await handle.result()
            return reads[-1]

        monkeypatch.setattr(backend, "load", load)
        monkeypatch.setattr(backend, "watch", lambda _: None)  # it is notified of nothing
        if way == "run":
            assert (await waiting.run(asks, run_id="r")).data == {"answer": 1}
        elif way == "result":
            assert (await attached.result()).data == {"answer": 1}
        else:
            assert "end" in [event.kind async for event in attached.events()]
        assert len(reads) > 1


async def test_a_cancellation(store_url: str) -> None:
    """A run that another process executes stops when it is cancelled."""
    async with process(store_url, WAITS.format("hangs", "")) as line:
        assert sorted([await line(), await line()]) == ["hangs", "started"]
        async with Kernel(store=store_url, poll=HOUR) as kernel:
            assert await kernel.cancel("r")
            assert await line() == RunCancelledError.__name__
            assert (await kernel.runs())[0].status is RunStatus.CANCELLED
