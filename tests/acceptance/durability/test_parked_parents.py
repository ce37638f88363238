"""A parent that is parked while its child is, on every store."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import pytest
from cano import Kernel, RunResult, RunStatus, Standstill, SubWorkflow, Workflow, current_step, sleep_until, wait_for
from cano.testing import survives_crashes


async def ask(store: Any) -> Any:
    """Wait for a signal, in a grandchild."""
    return wait_for("answer", then="NOTE")


async def note(store: Any) -> str:
    """Note the answer."""
    store["answer"] = current_step().payload
    return "DONE"


async def nap(store: Any) -> Any:
    """Sleep for a day, in a child."""
    return sleep_until(time.time() + 86_400, then="DONE")


def calls(name: str, child: Workflow[Any], *keys: str) -> Workflow[Any]:
    """A workflow that only executes another one."""
    outputs = {key: key for key in keys}
    return (
        Workflow("CALL", name=name)
        .register("CALL", SubWorkflow(child, {}, outputs, then="DONE"))
        .add_exit_state("DONE")
    )


asks: Workflow[Any] = Workflow("ASK", name="asks").register("ASK", ask).register("NOTE", note).add_exit_state("DONE")
eldest = calls("eldest", calls("middle", asks, "answer"), "answer")
sleeps: Workflow[Any] = Workflow("NAP", name="sleeps").register("NAP", nap).add_exit_state("DONE")
family = calls("family", sleeps)


async def parked(kernel: Kernel, number: int) -> dict[str, RunStatus]:
    """Return the statuses of all runs once that many are parked, and the kernel executes none of these."""
    while True:
        runs = await kernel.runs()
        if sum(run.status is RunStatus.PARKED for run in runs) == number:
            for run in [each for each in runs if each.status is RunStatus.PARKED]:
                if (active := kernel.active.get(run.run_id)) is not None:
                    await active.ended()
            return {run.run_id: run.status for run in runs}
        await asyncio.sleep(0)


async def test_a_family_over_kernels(store_url: str) -> None:
    """The first kernel parks three runs, and closes at once; one that recovers the eldest's workflow finishes them."""
    grandchild = "e:1/middle:1/asks"
    async with Kernel(store=store_url, grace=3600) as kernel:
        await kernel.start(eldest, run_id="e")
        await parked(kernel, 3)
        assert await kernel.explain("e") == (Standstill.WAITING_FOR_CHILD, "e:1/middle, which is parked")
        assert kernel.active == {}
    async with Kernel(store=store_url, poll=0.05) as kernel, Kernel(store=store_url) as sender:
        assert await kernel.recover(eldest) == []
        await sender.signal(grandchild, "answer", 42)
        result = await sender.run(eldest, run_id="e")
        statuses = {run.run_id: run.status for run in await sender.runs()}

    assert result == RunResult("e", "DONE", {"answer": 42}, 1)
    assert statuses == dict.fromkeys(["e", "e:1/middle", grandchild], RunStatus.SUCCEEDED)


@pytest.mark.parametrize("url", ["memory://", "memory://?strict=1"])
async def test_a_family_in_memory(url: str) -> None:
    """Without a durable store only the grandchild is parked: nothing survives, and no lease can be freed."""
    async with Kernel(store=url, grace=0) as kernel:
        handle = await kernel.start(eldest, run_id="e")
        statuses = await parked(kernel, 3 if "strict" in url else 1)
        await kernel.signal("e:1/middle:1/asks", "answer", 42)

        assert await handle.result() == RunResult("e", "DONE", {"answer": 42}, 1)
        assert statuses["e"] is (RunStatus.PARKED if "strict" in url else RunStatus.RUNNING)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.parametrize("store_url", ["postgres", "redis"], indirect=True)  # tests/plugins/durability has SQLite
def test_killed_at_every_write(store_url: str) -> None:
    """Parent and child end the same if the process is killed before or after any write, and one knows the parent."""
    report = survives_crashes(family, store=store_url)

    assert len([point for point in report.points if point.write.endswith("parked")]) == 4
