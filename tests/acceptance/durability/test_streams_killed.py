"""A process that emits is killed three times in mid-stream, while a reader reconnects each time."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import pytest
from cano import Kernel, StreamItem, Workflow, current_step

from tests.acceptance.durability import narrator

STOPS = [(1, 20), (1, 45), (3, 7)]
"""Step and word at which the processes stop and are killed."""


pytestmark = pytest.mark.slow


@pytest.fixture(params=["sqlite", "postgres", "redis"])
def url(request: pytest.FixtureRequest, url_of: Callable[[str], str]) -> str:
    """A new store."""
    return url_of(request.param)


async def told(url: str, after: int, until: str | None) -> list[StreamItem]:
    """Connect anew, and read what comes after an offset, up to an item, or to the end of the run."""
    found: list[StreamItem] = []
    async with Kernel(store=url) as kernel:
        attached = await kernel.attach("r")
        async for item in attached.stream("story", after=after):
            found.append(item)
            if item.value == until is not None:
                break
    return found


async def test_every_item_once_and_in_order(url: str) -> None:
    """Each item that was committed arrives once, in order; each other one is superseded by exactly one mark."""
    items: list[StreamItem] = []
    for number in range(len(STOPS) + 1):
        stop = STOPS[number] if number < len(STOPS) else (-1, -1)
        program = [sys.executable, "-m", narrator.__name__, url, *map(str, stop)]
        process: Any = await asyncio.create_subprocess_exec(*program, stdout=asyncio.subprocess.PIPE)
        try:
            last = "{}.{}".format(*stop) if number < len(STOPS) else None
            async with asyncio.timeout(60):
                assert await process.stdout.readline() == b"begun\n"
                while True:
                    items += await told(url, items[-1].offset if items else 0, last)
                    superseded = {offset for item in items for some in item.superseded for offset in some}
                    # the item of an earlier process that was killed is not the one that is waited for
                    if last is None or (items[-1].value == last and items[-1].offset not in superseded):
                        break
        finally:
            if number < len(STOPS):
                process.kill()
            await process.wait()
    assert [item.offset for item in items] == list(range(1, len(items) + 1))
    marked = [offset for item in items for some in item.superseded for offset in some]
    assert len(marked) == len(set(marked)), "an item is superseded twice"
    counted = [item.value for item in items if not item.superseded and item.offset not in marked]
    assert counted == [f"{step}.{word}" for step in range(narrator.STEPS) for word in (*range(narrator.WORDS), "last")]
    stories = [items[offset - 1].value for offset in marked]
    assert stories == [f"{step}.{word}" for step, last in STOPS for word in range(last + 1)]
    assert sum(bool(item.superseded) for item in items) == len(STOPS)


async def test_readers_are_notified(url: str) -> None:
    """A reader on another backend gets each item at once, although an hour passes between two polls."""
    more: asyncio.Queue[str] = asyncio.Queue()

    async def emits(store: Any) -> str:
        while (word := await more.get()) != "stop":
            await current_step().emit("x", word, flush=True)
        return "end"

    flow: Workflow[str] = Workflow("a", name="notifying").register("a", emits).add_exit_state("end")
    async with Kernel(store=url, poll=3600.0) as writer, Kernel(store=url, poll=3600.0) as other:
        handle = await writer.start(flow, {}, run_id="r")
        reader = (await other.attach("r")).stream("x")
        async with asyncio.timeout(60):
            for word in ("one", "two", "three"):
                waiting = asyncio.ensure_future(anext(reader))
                more.put_nowait(word)
                assert (await waiting).value == word
            more.put_nowait("stop")
            assert [item async for item in reader] == []
        await handle.result()
