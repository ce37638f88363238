"""A task cannot close the kernel that executes its stored run: nothing would store the run's end. On every store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from cano import ConfigurationError, JoinConfig, JoinStrategy, Kernel, RunStatus, SubWorkflow, Workflow


def by_call(kernel: Kernel) -> Workflow[str]:
    """A workflow whose task closes the kernel."""

    async def work(store: Any) -> str:
        with pytest.raises(ConfigurationError, match=r"state WORK cannot close its kernel, .* run r1 ") as refused:
            await kernel.close(grace=1000)
        store["refused"] = [refused.value.run_id, refused.value.state]
        return "END"

    return Workflow[str]("WORK").register("WORK", work).add_exit_state("END")


def by_block(kernel: Kernel) -> Workflow[str]:
    """A workflow whose task leaves an `async with` block of the kernel."""

    async def work(store: Any) -> str:
        with pytest.raises(ConfigurationError, match="cannot close its kernel"):
            async with kernel:
                store["refused"] = ["r1", "WORK"]
        return "END"

    return Workflow[str]("WORK").register("WORK", work).add_exit_state("END")


def by_thread(kernel: Kernel) -> Workflow[str]:
    """A workflow whose task closes the kernel in a worker thread."""

    def work(store: Any) -> str:
        with pytest.raises(ConfigurationError, match="cannot close its kernel"):
            asyncio.run(kernel.close(grace=1000))
        store["refused"] = ["r1", "WORK"]
        return "END"

    return Workflow[str]("WORK").register("WORK", work).add_exit_state("END")


def by_branch(kernel: Kernel) -> Workflow[str]:
    """A workflow of which one branch closes the kernel."""

    async def branch(store: Any) -> None:
        with pytest.raises(ConfigurationError, match="cannot close its kernel") as refused:
            await kernel.close(grace=1000)
        store["refused"] = [refused.value.run_id, refused.value.state]

    join: JoinConfig = JoinConfig(JoinStrategy.all(), "END")
    return Workflow[str]("WORK").register_split("WORK", [branch], join).add_exit_state("END")


def by_child(kernel: Kernel) -> Workflow[str]:
    """A workflow whose sub-workflow closes the kernel."""

    async def work(store: Any) -> str:
        with pytest.raises(ConfigurationError, match="cannot close its kernel"):
            await kernel.close(grace=1000)
        store["refused"] = ["r1", "WORK"]
        return "END"

    child = Workflow[str]("INNER", name="child").register("INNER", work).add_exit_state("END")
    task: SubWorkflow[str] = SubWorkflow(child, inputs={}, outputs={"refused": "refused"}, then="END")
    return Workflow[str]("WORK").register("WORK", task).add_exit_state("END")


@pytest.mark.parametrize("way", [by_call, by_block, by_thread, by_branch, by_child])
async def test_a_task_cannot_close_its_kernel(url: str, way: Callable[[Kernel], Workflow[str]]) -> None:
    """The call is refused at once, and changes nothing: the run continues, and its end is stored."""
    async with Kernel(store=url) as kernel:
        result = await kernel.run(way(kernel), {}, run_id="r1")

        assert result.data["refused"] == ["r1", "WORK"]
        (record,) = [record for record in await kernel.runs() if record.run_id == "r1"]
        assert (record.status, record.holder) == (RunStatus.SUCCEEDED, None)
        assert not kernel.closed


async def test_a_task_may_let_its_kernel_close(url: str) -> None:
    """An asyncio task that a step starts can close the kernel: closing waits until the run has ended."""
    closing: list[asyncio.Task[None]] = []
    kernel = Kernel(store=url)

    async def work(store: Any) -> str:
        closing.append(asyncio.create_task(kernel.close()))
        await asyncio.sleep(0)
        return "END"

    handle = await kernel.start(Workflow[str]("WORK").register("WORK", work).add_exit_state("END"), {}, run_id="r1")

    assert (await handle.result()).state == "END"
    await closing[0]
    if not url.startswith("memory"):
        async with Kernel(store=url) as other:
            (record,) = await other.runs()
            assert (record.status, record.holder) == (RunStatus.SUCCEEDED, None)
