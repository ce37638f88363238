"""`python -m tests.benchmarks.executors`: what it costs to execute tasks in worker processes, and what it gains.

A remote no-op step stands beside `ProcessPoolExecutor.submit` of a function of the same bytes, the standard library's
own. A split of branches that compute stands beside the same split in the process of the run. Wall-clock times, for the
work is in other processes; the variants take turns, and the best of each counts.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from cano import Executor, JoinConfig, JoinStrategy, Kernel, KeyValueStore, TaskConfig, Workflow
from cano_process import ProcessExecutor
from cano_remote import FuturesExecutor

from tests.benchmarks.measure import Line, table

THERE = TaskConfig(executor="there")


async def nothing(store: KeyValueStore) -> Any:
    """Count the steps."""
    store["left"] -= 1
    return "STEP" if store["left"] else "END"


def compute(store: KeyValueStore) -> Any:
    """Keep a processor busy."""
    number = 0
    for _ in range(store.get("work", int)):
        number = (number * 1_103_515_245 + 12_345) & 0x7FFFFFFF


def echo(data: bytes) -> bytes:
    """Return the bytes."""
    return data


def chain(config: TaskConfig) -> Workflow[str]:
    """A workflow of no-op steps."""
    flow: Workflow[str] = Workflow("STEP", name="chain", default_config=config)
    return flow.register("STEP", nothing).add_exit_state("END")


def split(branches: int, config: TaskConfig) -> Workflow[str]:
    """A workflow of one split."""
    flow: Workflow[str] = Workflow("SPLIT", name="split", default_config=config)
    flow.register_split("SPLIT", [compute] * branches, JoinConfig(JoinStrategy.all(), "END"))
    return flow.add_exit_state("END")


async def fastest(rounds: int, *variants: Callable[[], Awaitable[object]]) -> list[float]:
    """The shortest wall-clock time of each variant, in seconds."""
    best = [float("inf")] * len(variants)
    for _ in range(rounds):
        for number, variant in enumerate(variants):
            begin = time.perf_counter()
            await variant()
            best[number] = min(best[number], time.perf_counter() - begin)
    return best


async def measured(steps: int, branches: int, work: int, workers: int, rounds: int) -> list[Line]:
    """Every line of the table."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context) as pool:
        executors: dict[str, str | Executor] = {"there": ProcessExecutor(workers), "pool": FuturesExecutor(pool)}
        async with Kernel(executor=executors, block=["retry"]) as kernel:
            loop = asyncio.get_running_loop()

            async def submitted() -> None:
                for _ in range(steps):
                    await loop.run_in_executor(pool, echo, b"x" * 300)

            def run(flow: Workflow[str], data: dict[str, Any]) -> Callable[[], Awaitable[object]]:
                return lambda: kernel.run(flow, data)

            count, busy = {"left": steps}, {"work": work}
            variants = (
                submitted, run(chain(THERE), count), run(chain(TaskConfig(executor="pool")), count),
                run(split(branches, TaskConfig()), busy), run(split(branches, THERE), busy),
            )  # fmt: skip
            await fastest(1, *variants)  # starts the workers
            raw, remote, futures, here, there = await fastest(rounds, *variants)
    gain = f"the same, {workers} workers on {os.cpu_count()} CPUs: how many times as fast"
    return [
        Line("ProcessPoolExecutor.submit, a call", "", raw / steps * 1e6, "µs"),
        Line("a remote no-op step, process://", "that", remote / raw, "x", 1.5),
        Line("the same, FuturesExecutor", "that", futures / raw, "x"),
        Line(f"a split of {branches} branches that compute, here", "", here * 1e3, "ms"),
        Line(gain, "here", here / there, "x"),
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.executors", description=__doc__)
    parser.add_argument("--steps", type=int, default=1_000, help="steps of a run")
    parser.add_argument("--branches", type=int, default=64, help="branches of the split")
    parser.add_argument("--work", type=int, default=200_000, help="turns of each branch's loop")
    parser.add_argument("--workers", type=int, default=2, help="worker processes")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    lines = asyncio.run(measured(given.steps, given.branches, given.work, given.workers, given.rounds))
    print(table(lines))


if __name__ == "__main__":
    main()
