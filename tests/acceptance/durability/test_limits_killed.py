"""Four processes share the five slots of a limit, and several are killed while their runs hold some."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cano import Kernel, SlotStore

from tests.acceptance.durability import limited

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

WORKERS = 4
KILLED_AFTER = 3, 9
"""The numbers of bodies after which the process of the last one is killed, and another one started."""


@pytest.fixture(params=["sqlite", "postgres", "redis"])
def url(request: pytest.FixtureRequest, url_of: Callable[[str], str]) -> str:
    """A new store."""
    return url_of(request.param)


async def test_a_limit_holds_while_processes_are_killed(url: str, tmp_path: Path) -> None:
    """Never are there more than five bodies; each run is done once, and no slot is left."""
    begun: asyncio.Queue[tuple[Any, str]] = asyncio.Queue()
    readers: list[asyncio.Task[None]] = []
    processes: list[Any] = []

    async def read(process: Any) -> None:
        while line := await process.stdout.readline():
            begun.put_nowait((process, line.decode().strip()))

    async def start() -> None:
        program = [sys.executable, "-m", limited.__name__, url, str(tmp_path)]
        process = await asyncio.create_subprocess_exec(*program, stdout=asyncio.subprocess.PIPE)
        processes.append(process)
        readers.append(asyncio.create_task(read(process)))

    flow = limited.flow_in(tmp_path)
    try:
        async with asyncio.timeout(300), Kernel(store=url, poll=0.2) as kernel:
            await kernel.submit_many(flow, ({} for _ in range(limited.RUNS)), run_id="run")
            for _ in range(WORKERS):
                await start()
            for number in range(1, max(KILLED_AFTER) + 1):
                process, _ = await begun.get()
                if number in KILLED_AFTER and process.returncode is None:
                    process.send_signal(signal.SIGKILL)
                    await process.wait()
                    await start()
            for number in range(1, limited.RUNS + 1):
                assert (await (await kernel.attach(f"run-{number}")).result()).state == "end"
                history = await kernel.history(f"run-{number}")
                assert [entry.state for entry in history if entry.seq > 0] == ["rest", "end"]
            assert isinstance(kernel.backend, SlotStore)
            assert await kernel.backend.slots() == []
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
            await process.wait()
        await asyncio.gather(*readers)
    counts = [int(line) for line in (tmp_path / "counts").read_text().split()]
    assert len(counts) >= limited.RUNS
    assert max(counts) == limited.SLOTS
