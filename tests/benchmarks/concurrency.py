"""What happens side by side: batches, splits, and time limits, beside what one would write by hand."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any

from cano import (
    ConcurrentWorkflow,
    JoinConfig,
    JoinStrategy,
    Kernel,
    SubWorkflow,
    TaskConfig,
    WaitStrategy,
    Workflow,
)

from tests.benchmarks.flows import RING, Handlers, State, by_hand, flow, no_ops, waiting, yielding
from tests.benchmarks.measure import Line, best

GATHER = "bare gather of the loop"
ALL = JoinStrategy.all()


async def side_by_side(steps: int, runs: int, rounds: int) -> list[Line]:
    """Every line of this module."""
    return [
        *await batches(runs, max(1, rounds - 2)),
        *await batch_memory(runs),
        *await splits(max(1, runs // 200), rounds),
        *await time_limits(steps // 5, rounds),
    ]


async def batches(runs: int, rounds: int) -> list[Line]:
    """Three-step runs in one `ConcurrentWorkflow`, all at once and a few at a time."""
    handlers = yielding()
    kernel = Kernel(discover=False)
    everything = ConcurrentWorkflow(flow(handlers), kernel=kernel)
    limited = ConcurrentWorkflow(flow(handlers), limit=100, kernel=kernel)

    async def bare() -> None:
        await asyncio.gather(*(by_hand(handlers, {}) for _ in range(runs)))

    async def bare_limited() -> None:
        places = asyncio.Semaphore(100)

        async def one() -> None:
            async with places:
                await by_hand(handlers, {})

        await asyncio.gather(*(one() for _ in range(runs)))

    async def batch() -> None:
        await everything.execute_concurrent([{} for _ in range(runs)], WaitStrategy.forever())

    async def batch_limited() -> None:
        await limited.execute_concurrent(({} for _ in range(runs)), WaitStrategy.forever())

    loop, ours, loop_limited, ours_limited = await best(rounds, bare, batch, bare_limited, batch_limited)
    return [
        Line(f"a batch of {runs:,} three-step runs", GATHER, ours / loop, "x", 2.0),
        Line("the same, 100 at a time, from an iterator", "gather and a semaphore", ours_limited / loop_limited, "x"),
    ]


async def batch_memory(runs: int) -> list[Line]:
    """What a run of a batch holds in memory while it is under way, its result and the batch's own books included."""
    gate, kernel = asyncio.Event(), Kernel(discover=False)
    batch = ConcurrentWorkflow(flow(waiting(gate)), kernel=kernel)
    await batch.execute_concurrent([])
    stores: list[dict[str, Any]] = [{} for _ in range(runs)]
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    under_way = asyncio.ensure_future(batch.execute_concurrent(stores))
    for _ in range(runs):
        await asyncio.sleep(0)  # until all of them wait: a batch begins a few runs in each turn of the loop
    assert len(kernel.active) == runs
    gc.collect()
    now, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    gate.set()
    await under_way
    return [Line("memory of a run of a batch in flight", "its data", (now - before) / runs, "bytes", 3072)]


async def splits(times: int, rounds: int) -> list[Line]:
    """Splits into 100 branches, per branch: of those that do nothing, that wait, that write, that are sub-workflows."""

    async def nothing(store: Any) -> None: ...

    async def wait(store: Any) -> None:
        await asyncio.sleep(0)

    async def write(store: Any) -> None:
        store.append("log", 1)

    def bare(work: Callable[[Any], Awaitable[object]]) -> Callable[[], Awaitable[object]]:
        async def run() -> None:
            for _ in range(times):
                store = Log()
                await asyncio.gather(*(work(store) for _ in range(100)))

        return run

    kernel = Kernel(discover=False)

    def joined(work: Any) -> Callable[[], Awaitable[object]]:
        split = Workflow("split").register_split("split", [work] * 100, JoinConfig(ALL, "end")).add_exit_state("end")

        async def run() -> None:
            for _ in range(times):
                await kernel.orchestrate(split, {})

        return run

    child = SubWorkflow[str](Workflow("start").register("start", end).add_exit_state("end"), then="end")
    goals = {"do nothing": 2.0, "wait once": 2.0, "append to one list": 1.6, "are sub-workflows": None}
    works = zip(goals, (nothing, wait, write, child), (nothing, wait, write, end), strict=True)
    lines = []
    for what, ours, by_gather in works:
        gather, split = await best(rounds, bare(by_gather), joined(ours))
        lines.append(Line(f"100 branches that {what}, per branch", "bare gather", split / gather, "x", goals[what]))
    return lines


async def time_limits(steps: int, rounds: int) -> list[Line]:
    """What limits that are never reached add to a step: one on each attempt, one on the whole run."""
    handlers = no_ops(steps)
    kernel = Kernel(discover=False)

    def ring(config: TaskConfig, handlers: Handlers) -> Workflow[State]:
        assert tuple(handlers) == RING
        return flow(handlers, config)

    plain = ring(TaskConfig.minimal(), handlers)
    both = ring(TaskConfig(timeout=3600, total_timeout=3600), handlers)

    def run(flow: Workflow[State], timeout: float | None = None) -> Callable[[], Awaitable[object]]:
        return lambda: kernel.run(flow, {}, timeout=timeout)

    without, step, whole = await best(rounds, run(plain), run(both), run(plain, 3600))
    return [
        Line("an attempt and a total timeout", "none", (step - without) / steps * 1e6, "µs"),
        Line("a timeout of the run", "none", (whole - without) / steps * 1e6, "µs"),
    ]


class Log:
    """A list, as the hand-written branches have it."""

    def __init__(self) -> None:
        self.items: list[int] = []

    def append(self, key: str, item: int) -> None:
        """One more."""
        self.items.append(item)


async def end(store: Any) -> str:
    """Nothing."""
    return "end"
