"""Reports that come while their task executes: what holds for every executor that has a channel for them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cano import Executor, Kernel, Progress, StreamItem

from tests.plugins.process import reports
from tests.plugins.process.reports import flow_of
from tests.waiting import until


def counting(items: Iterable[StreamItem]) -> list[Any]:
    """The values of the items that no mark supersedes."""
    by_offset: dict[int, Any] = {}
    for item in items:
        if not item.superseded:
            by_offset[item.offset] = item.value
        for offsets in item.superseded:
            for offset in offsets:
                del by_offset[offset]
    return [*by_offset.values()]


async def check_that_reports_are_live(executor: Executor, store: str, folder: Path) -> None:
    """A task elsewhere is held; its flushed items and its progress are there before it goes on."""
    async with Kernel(store=store, executor={"cpu": executor}, block=["retry"]) as kernel:
        handle = await kernel.start(flow_of(reports.emit_and_hold), {"folder": str(folder)}, run_id="r")
        items, held = handle.stream("x"), Progress(2, 2, "held")
        assert [(await anext(items)).value, (await anext(items)).value] == ["before", "now"]
        await until(lambda: handle.status().progress == held)
        assert not (folder / "done").exists()
        (folder / "go").touch()
        await handle.result()
        assert [item.value async for item in items] == ["after"]
