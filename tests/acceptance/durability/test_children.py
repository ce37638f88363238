"""Child runs on every durable store."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from cano import Kernel, RunStatus, SubWorkflow, TaskConfig, TaskError, Workflow, current_step
from cano_retry import Fixed


async def test_a_cancelled_child_stays_cancelled(store_url: str) -> None:
    """With the default config, which retries, the parent fails at once and names the child, also when it is resumed."""
    began = asyncio.Event()
    bodies: list[str] = []

    async def work(store: Any) -> str:
        bodies.append(current_step().run_id)
        began.set()
        await asyncio.Event().wait()
        return "END"

    def parent() -> Workflow[str]:
        child = Workflow("WORK", name="child").register("WORK", work).add_exit_state("END")
        flow = Workflow("CALL", name="parent").register("CALL", SubWorkflow(child, then="END"))
        return flow.add_exit_state("END")

    async with Kernel(store=store_url) as kernel:
        handle = await kernel.start(parent(), run_id="p")
        await began.wait()
        assert await kernel.cancel("p:1/child")
        with pytest.raises(TaskError, match="run p:1/child was cancelled"):
            await handle.result()
    async with Kernel(store=store_url) as kernel:
        with pytest.raises(TaskError, match="run p:1/child was cancelled"):
            await kernel.resume(parent(), "p")
        statuses = {run.run_id: run.status for run in await kernel.runs()}

    assert statuses == {"p": RunStatus.FAILED, "p:1/child": RunStatus.CANCELLED}
    assert bodies == ["p:1/child"]


async def test_two_children_of_one_workflow_in_one_step(store_url: str) -> None:
    """Each has its own result, which a second attempt finds again."""
    bodies: list[int] = []

    async def square(store: Any) -> str:
        bodies.append(store["number"])
        store["square"] = store["number"] ** 2
        return "END"

    child = Workflow("SQUARE", name="square").register("SQUARE", square).add_exit_state("END")

    async def both(store: Any) -> str:
        step = current_step()
        results = [await step.run.kernel.run_child(child, {"number": number}, step) for number in (2, 3)]
        store["squares"] = [result.data["square"] for result in results]
        if step.attempt == 1:
            raise ConnectionError
        return "END"

    flow = Workflow("BOTH", name="parent").add_exit_state("END")
    flow.register("BOTH", both, config=TaskConfig(retry=Fixed(1, delay=0)))
    async with Kernel(store=store_url) as kernel:
        result = await kernel.run(flow, run_id="p")
        runs = {run.run_id for run in await kernel.runs()}

    assert result.data["squares"] == [4, 9]
    assert runs == {"p", "p:1/square", "p:1.2/square"}
    assert bodies == [2, 3]
