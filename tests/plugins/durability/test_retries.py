"""Retries that come much later are waited for in the store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from cano import Kernel, Node, RetryExhaustedError, RunStatus, TaskConfig, Wait, Workflow, current_step

if TYPE_CHECKING:
    from tests.plugins.durability.conftest import World


class After:
    """Four attempts, with these seconds in between."""

    def __init__(self, *delays: float) -> None:
        self.delays = delays

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """Seconds to wait."""
        return self.delays[attempt - 1] if attempt <= len(self.delays) else None


class Flaky:
    """A step that fails a number of times."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.attempts: list[tuple[int, str]] = []

    async def work(self, store: Any) -> str:
        """Fail, or write down which attempt this is."""
        step = current_step()
        self.attempts.append((step.attempt, step.idempotency_key))
        store["trace"] = True
        if len(self.attempts) <= self.failures:
            raise ValueError("not yet")
        store["attempt"] = step.attempt
        return "end"

    def flow(self, *delays: float, **options: Any) -> Workflow[str]:
        """Its workflow."""
        config = TaskConfig(retry=After(*delays), **options)
        return Workflow("work", name="flaky", default_config=config).register("work", self.work).add_exit_state("end")


async def test_a_long_delay_is_parked(kernel: Kernel, world: World) -> None:
    """A retry that comes in more than a minute holds no task and no lease, and is made at its time, with its number."""
    flaky = Flaky(2)
    handle = await kernel.start(flaky.flow(300, 61), run_id="r")
    await world.settle()
    record = await world.look("r")
    assert (record.status, record.state, record.seq, record.holder) == (RunStatus.PARKED, "work", 0, None)
    assert record.wait == Wait(then="work", until=world.clock.time() + 300)
    assert kernel.active == {}
    assert "trace" not in record.data

    await world.clock.advance(299)
    assert len(flaky.attempts) == 1
    await world.clock.advance(1)
    assert len(flaky.attempts) == 2
    assert (await world.look("r")).wait == Wait(then="work", until=world.clock.time() + 61)
    await world.clock.advance(61)
    assert (await handle.result()).data == {"trace": True, "attempt": 3}
    assert flaky.attempts == [(1, "r:1"), (2, "r:1"), (3, "r:1")]
    assert [line.seq for line in await kernel.history("r")] == [0, 1]


async def test_a_short_delay_is_not(kernel: Kernel, world: World) -> None:
    """A retry within a minute is waited for right here."""
    flaky = Flaky(1)
    handle = await kernel.start(flaky.flow(60), run_id="r")
    await world.settle()
    assert (await world.look("r")).status is RunStatus.RUNNING
    await world.clock.advance(60)
    assert (await handle.result()).data["attempt"] == 2


async def test_the_process_ends_meanwhile(kernel: Kernel, world: World) -> None:
    """Another process makes the next attempt, and knows which one it is."""
    flaky = Flaky(3)
    flow = flaky.flow(100, 100, 100)
    for _ in range(3):
        world_kernel = await world.kernel()
        await world_kernel.recover(flow)
        if not flaky.attempts:
            await world_kernel.start(flow, run_id="r")
        await world.clock.advance(101)
        await world.crash(world_kernel)
    other = await world.kernel()
    await world.clock.advance(100)
    assert (await other.run(flow, run_id="r")).data == {"trace": True, "attempt": 4}
    assert [attempt for attempt, _ in flaky.attempts] == [1, 2, 3, 4]


async def test_the_last_attempt_fails(kernel: Kernel, world: World) -> None:
    """When the attempts are used up, the run has failed with their number; resumed, it has all of them again."""
    flaky = Flaky(5)
    flow = flaky.flow(100, 100)
    handle = await kernel.start(flow, run_id="r")
    await world.clock.advance(200)
    with pytest.raises(RetryExhaustedError) as caught:
        await handle.result()
    assert caught.value.attempts == 3

    resuming = await world.kernel()
    await resuming.recover(flow)
    assert len(flaky.attempts) == 3  # a failed run is not recovered
    handle = await resuming.start(flow, run_id="r")
    with pytest.raises(RetryExhaustedError):
        await handle.result()
    resumed = asyncio.ensure_future(resuming.resume(flow, "r"))
    await world.clock.advance(201)
    assert (await resumed).data["attempt"] == 3
    assert [attempt for attempt, _ in flaky.attempts] == [1, 2, 3, 1, 2, 3]


async def test_with_an_attempt_timeout(kernel: Kernel, world: World) -> None:
    """Time limits of an attempt do not get into the way of parking it."""
    flaky = Flaky(1)
    handle = await kernel.start(flaky.flow(100, timeout=5, total_timeout=1000), run_id="r")
    await world.clock.advance(50)
    assert (await world.look("r")).status is RunStatus.PARKED
    await world.clock.advance(50)
    assert (await handle.result()).data["attempt"] == 2


async def test_a_node(kernel: Kernel, world: World) -> None:
    """A node whose retry is parked makes the rest of its attempts later; the budget is one."""
    phases: list[tuple[str, int]] = []

    class Fetch(Node[str, int, int]):
        async def prep(self, store: Any) -> int:
            phases.append(("prep", current_step().attempt))
            return 1

        async def exec(self, prepared: int) -> int:
            phases.append(("exec", current_step().attempt))
            if current_step().attempt < 3:
                raise ValueError
            return prepared + 1

        async def post(self, store: Any, prepared: int, result: int) -> str:
            store["result"] = result
            return "end"

    flow = Workflow("fetch", name="node").register("fetch", Fetch(TaskConfig(retry=After(1, 100))))
    handle = await kernel.start(flow.add_exit_state("end"), run_id="r")
    await world.clock.advance(101)
    assert (await handle.result()).data == {"result": 2}
    assert [attempt for phase, attempt in phases if phase == "exec"] == [1, 2, 3]


async def test_exit_durability_waits_here(kernel: Kernel, world: World) -> None:
    """A workflow that commits at its end alone does not park for a retry: it has nothing in the store to go on from."""
    flaky = Flaky(1)
    config = TaskConfig(retry=After(100))
    flow = Workflow("work", name="x", durability="exit", default_config=config).register("work", flaky.work)
    handle = await kernel.start(flow.add_exit_state("end"), run_id="r")
    await world.settle()
    assert (await world.look("r")).status is RunStatus.RUNNING
    await world.clock.advance(100)
    assert (await handle.result()).data["attempt"] == 2
