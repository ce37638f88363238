"""Runs that another process executes: what is seen of them, on each store."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from cano import Kernel, Progress, RunStatus, StoreBackend, TaskError, Workflow, current_step, wait_for

from tests.acceptance.durability.shared import ONLY


async def first(store: Any) -> Any:
    """Wait for a signal."""
    store["count"] = 1
    return wait_for("go", then="second")


async def second(store: Any) -> str:
    """End, or fail."""
    if current_step().payload == "fail":
        raise ValueError("as asked")
    return "end"


flow: Workflow[str] = Workflow("first", name="followed").add_exit_state("end")
flow.register("first", first).register("second", second)


async def test_progress_on_each_store(store: str | StoreBackend) -> None:
    """What a step reports reaches a kernel that does not execute it."""
    gate = asyncio.Event()

    async def work(store: Any) -> str:
        current_step().progress(1, 4, "quarters")
        await gate.wait()
        return "end"

    job: Workflow[str] = Workflow("work", name="job").add_exit_state("end").register("work", work)
    async with Kernel(store=store, **ONLY) as kernel, Kernel(store=store, **ONLY) as other, asyncio.timeout(60):
        handle = await kernel.start(job, {}, run_id="r")
        attached = await other.attach("r")
        while (progress := await attached.progress()) is None:  # noqa: ASYNC110  # no event reports it
            await asyncio.sleep(0)
        assert progress == Progress(1, 4, "quarters")
        gate.set()
        await handle.result()
        assert await attached.progress() is None


async def test_an_attached_run_on_each_store(store: str | StoreBackend) -> None:
    """A kernel that executes nothing is told of the end, and reads data, error and traceback."""
    poll = 3600 if isinstance(store, str) else 0.1  # stores on disk and servers tell of the end
    async with Kernel(store=store, **ONLY) as kernel, Kernel(store=store, poll=poll, **ONLY) as other:
        handles = [await kernel.start(flow, {}, run_id=run_id) for run_id in ("good", "bad")]
        attached = [await other.attach(run_id) for run_id in ("good", "bad")]
        results = [asyncio.ensure_future(run.result()) for run in attached]
        while {(await run.view()).status for run in attached} != {RunStatus.PARKED}:
            await asyncio.gather(*(run.ended() for run in list(kernel.active.values())))
        await attached[0].signal("go")
        await attached[1].signal("go", "fail")
        done = await asyncio.wait_for(asyncio.gather(*results, return_exceptions=True), 60)
        assert (done[0].state, done[0].data, done[0].steps) == ("end", {"count": 1}, 2)  # type: ignore[union-attr]
        assert isinstance(done[1], TaskError)
        assert 'in second\n    raise ValueError("as asked")' in str(done[1].traceback)
        view = await other.get("bad")
        assert (view.status, view.state, view.payload, view.holder) == (RunStatus.FAILED, "second", "fail", None)
        assert other.active == {}
        with pytest.raises(TaskError):
            await handles[1].result()
