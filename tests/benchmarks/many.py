"""What many runs at once cost, in time and in memory."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from cano import Kernel

from tests.benchmarks.flows import Handlers, by_hand, flow, waiting, yielding
from tests.benchmarks.measure import Line, best

GATHER = "bare gather of the loop"
Start = Callable[[], Coroutine[Any, Any, object]]


async def gathered(start: Start, runs: int) -> None:
    """So many at once."""
    await asyncio.gather(*(start() for _ in range(runs)))


def looped(handlers: Handlers) -> Coroutine[Any, Any, object]:
    """The loop, on a dict of its own."""
    return by_hand(handlers, {})


async def concurrent_runs(runs: int, rounds: int) -> list[Line]:
    """Three-step runs, all under way at the same time; on the kernel alone, and with a store of runs and retries."""
    handlers = yielding()
    alone = Kernel(discover=False)
    async with Kernel(plugins=["memory", "retry"], discover=False) as full:
        loop, own, complete = await best(
            rounds,
            partial(gathered, partial(looped, handlers), runs),
            partial(gathered, partial(alone.run, flow(handlers), {}), runs),
            partial(gathered, partial(full.run, flow(handlers), {}), runs),
        )
    return [
        Line(f"{runs:,} concurrent three-step runs", GATHER, own / loop, "x", 2.0),
        Line("the same with cano-memory and cano-retry", GATHER, complete / loop, "x"),
    ]


async def memory(runs: int) -> list[Line]:
    """What a run that is under way holds in memory."""
    gate = asyncio.Event()
    handlers = waiting(gate)
    kernel = Kernel(discover=False)
    ours = flow(handlers)
    await kernel.open()
    loop = await _held(gate, partial(looped, handlers), runs)
    run = await _held(gate, partial(kernel.run, ours, {}), runs)
    return [
        Line("memory of a run in flight", "nothing", run, "bytes"),
        Line("memory of a run in flight, beyond", GATHER, run - loop, "bytes", 3072),
    ]


async def _held(gate: asyncio.Event, start: Start, runs: int) -> float:
    gate.clear()
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    under_way = asyncio.gather(*(start() for _ in range(runs)))
    for _ in range(5):
        await asyncio.sleep(0)  # until all of them wait
    gc.collect()
    now, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    gate.set()
    await under_way
    return (now - before) / runs
