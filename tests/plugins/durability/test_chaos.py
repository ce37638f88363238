"""Everything at once: stores that fail and kernels that die, at random, and runs that come out right all the same."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from cano import (
    CanoError,
    JoinConfig,
    JoinStrategy,
    Kernel,
    RunStatus,
    StoreUnavailableError,
    SubWorkflow,
    TaskConfig,
    Workflow,
    current_step,
    wait_for,
)

if TYPE_CHECKING:
    from tests.plugins.durability.conftest import World

RUNS = [f"r{number}" for number in range(4)]
FALLIBLE = ("create", "load", "commit", "claim", "renew", "release", "put_signal", "next_signal", "ready")


class Later:
    """Three attempts, the last of them in two minutes."""

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """Soon, and then later."""
        return {1: 1.0, 2: 120.0}.get(attempt)


class Program:
    """A run with a loop, a split, a retry, a wait and a child. It notes the steps that it was asked to do."""

    def __init__(self) -> None:
        self.did: Counter[str] = Counter()

    def note(self) -> None:
        """Note the step."""
        self.did[current_step().idempotency_key] += 1

    async def count(self, store: Any) -> str:
        """Three turns."""
        self.note()
        store["n"] = store.get("n", default=0) + 1
        return "count" if store["n"] % 3 else "split"

    async def branch(self, store: Any) -> int:
        """A branch, which fails at first."""
        self.note()
        if current_step().attempt == 1:
            raise ConnectionError
        store.append("log", current_step().branch)
        return 1

    async def joined(self, store: Any) -> Any:
        """Fail once, keep the sum, and wait for a signal."""
        self.note()
        if current_step().attempt == 1:
            raise ConnectionError
        store["sum"] = sum(current_step().outcome.results)
        return wait_for("go", then="child")

    async def double(self, store: Any) -> str:
        """The child's step."""
        self.note()
        store["x"] = store["x"] * 2
        return "done"

    async def last(self, store: Any) -> str:
        """Once more, as long as there are turns left."""
        self.note()
        return "count" if store["n"] < 6 else "end"

    def flow(self) -> Workflow[Any]:
        """Its workflow."""
        child = Workflow("double", name="child").register("double", self.double).add_exit_state("done")
        flow: Workflow[Any] = Workflow("count", name="chaos", default_config=TaskConfig(retry=Later()))
        flow.register("count", self.count).register("joined", self.joined).register("last", self.last)
        flow.register_split("split", [self.branch, self.branch], JoinConfig(JoinStrategy.all(), "joined"))
        flow.register("child", SubWorkflow(child, {"n": "x"}, {"x": "doubled"}, then="last"))
        return flow.add_exit_state("end")


def disturb(kernel: Kernel, world: World, chance: random.Random, share: float) -> None:
    """Let calls of the store fail at random: before they are made, or when they were."""

    def perhaps(subject: Any) -> None:
        if chance.random() < share:
            raise StoreUnavailableError("a disturbance")

    for call in FALLIBLE:
        world.faults(kernel).at_call(call, None).do(perhaps)
        world.faults(kernel).at_call(call, None, after=True).do(perhaps)


@pytest.mark.parametrize("seed", range(100 if os.environ.get("CANO_SOAK") else 3))
async def test_chaos(world: World, seed: int, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever fails and whoever dies, each transition is committed once, and the data is exact."""
    caplog.set_level("CRITICAL")
    chance, program = random.Random(seed), Program()
    flow = program.flow()
    waiting: list[asyncio.Future[Any]] = []

    async def fresh(share: float) -> Kernel:
        kernel = await world.kernel()
        disturb(kernel, world, chance, share)
        with suppress(CanoError):
            await kernel.recover(flow)
        for run_id in RUNS:
            with suppress(CanoError):
                waiting.append(asyncio.ensure_future((await kernel.start(flow, run_id=run_id)).result()))
            for turn in (1, 2):
                with suppress(CanoError):
                    await kernel.signal(run_id, "go", turn, id=str(turn))
        return kernel

    kernels = [await fresh(0.08) for _ in range(2)]
    for _ in range(12):
        await world.clock.advance(chance.choice([1, 10, 40, 130]))
        dead = kernels.pop(chance.randrange(2))
        await (world.crash(dead) if chance.random() < 0.5 else world.close(dead))
        kernels.append(await fresh(0.08))
    for kernel in kernels:
        await world.close(kernel)
    last = await fresh(0.0)
    for _ in range(40):
        await world.clock.advance(40)
        if {(await world.look(run_id)).status for run_id in RUNS} == {RunStatus.SUCCEEDED}:
            break
    await asyncio.gather(*waiting, return_exceptions=True)

    for run_id in RUNS:
        result = await last.run(flow, run_id=run_id)
        assert result.state == "end"
        assert result.data == {"n": 6, "log": ["0:branch", "1:branch"] * 2, "sum": 2, "doubled": 12}
        lines = await last.history(run_id)
        assert [line.seq for line in lines] == list(range(len(lines)))
        states = ["count", "count", "count", "split", "joined", "child", "last"] * 2
        assert [line.state for line in lines] == [*states, "end"]
        child = await last.history(f"{run_id}:6/child")
        assert [line.state for line in child] == ["double", "done"]
    assert await last.check() == []
    await world.lapse()  # a lease that somebody could not give back does no harm
    runs = await last.runs()
    assert [run.status for run in runs] == [RunStatus.SUCCEEDED] * (3 * len(RUNS))
    assert all(run.expires is None or run.expires < world.clock.time() for run in runs)
