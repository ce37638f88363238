"""`python -m tests.benchmarks.executors`: what it costs to execute tasks in worker processes, and what it gains.

For each engine, a remote no-op step stands beside the engine's own `submit` of a function of the same bytes: of a
`ProcessPoolExecutor`, of Dask's client, of a Ray task. A split of branches that compute stands beside the same split in
the process of the run. Wall-clock times, for the work is in other processes; the variants take turns, and the best of
each counts.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

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


class Engine(NamedTuple):
    """An engine, and what it is measured beside.

    Attributes:
        name: its scheme.
        executor: what executes the calls.
        own: the name of its own `submit`.
        submit: calls that, once.
    """

    name: str
    executor: Executor
    own: str
    submit: Callable[[bytes], Awaitable[object]]


@asynccontextmanager
async def processes(workers: int) -> AsyncIterator[Engine]:
    """Worker processes of `process://`, beside those of the standard library."""
    loop, executor = asyncio.get_running_loop(), ProcessExecutor(workers)
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:

        async def submit(data: bytes) -> object:
            return await loop.run_in_executor(pool, echo, data)

        yield Engine("process://", executor, "ProcessPoolExecutor.submit", submit)
    await executor.close()


@asynccontextmanager
async def futures(workers: int) -> AsyncIterator[Engine]:
    """A pool of the standard library, beside itself."""
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:

        async def submit(data: bytes) -> object:
            return await loop.run_in_executor(pool, echo, data)

        yield Engine("FuturesExecutor", FuturesExecutor(pool), "ProcessPoolExecutor.submit", submit)


@asynccontextmanager
async def dask(workers: int) -> AsyncIterator[Engine]:
    """A Dask cluster of this machine."""
    from cano_dask import DaskExecutor

    executor = DaskExecutor(None, workers)
    await executor.open()

    async def submit(data: bytes) -> object:
        return await executor._client.submit(echo, data, pure=False)

    yield Engine("dask://local", executor, "Client.submit", submit)
    await executor.close()


@asynccontextmanager
async def ray(workers: int) -> AsyncIterator[Engine]:
    """A Ray cluster of this machine."""
    import ray
    from cano_ray import RayExecutor

    executor = RayExecutor(None, workers)
    await executor.open()
    remote = ray.remote(echo)

    async def submit(data: bytes) -> object:
        return await remote.remote(data)

    yield Engine("ray://local", executor, "ray.remote", submit)
    await executor.close()


ENGINES = {"process": processes, "futures": futures, "dask": dask, "ray": ray}


async def measured(names: list[str], steps: int, branches: int, work: int, workers: int, rounds: int) -> list[Line]:
    """Every line of the table, one engine after the other."""
    lines = []
    for name in names:
        async with ENGINES[name](workers) as engine:
            lines += await measured_of(engine, steps, branches, work, workers, rounds)
    return lines


async def measured_of(engine: Engine, steps: int, branches: int, work: int, workers: int, rounds: int) -> list[Line]:
    """The lines of one engine."""
    async with Kernel(executor={"there": Open(engine.executor)}, block=["retry"]) as kernel:

        async def submitted() -> None:
            for _ in range(steps):
                await engine.submit(b"x" * 300)

        def run(flow: Workflow[str], data: dict[str, Any]) -> Callable[[], Awaitable[object]]:
            return lambda: kernel.run(flow, data)

        variants = (
            submitted, run(chain(THERE), {"left": steps}), run(split(branches, TaskConfig()), {"work": work}),
            run(split(branches, THERE), {"work": work}),
        )  # fmt: skip
        await fastest(1, *variants)  # starts the workers
        own, remote, here, there = await fastest(rounds, *variants)
    gain = f"the same on {engine.name}, {workers} workers on {os.cpu_count()} CPUs: how many times as fast"
    return [
        Line(f"{engine.own}, a call", "", own / steps * 1e6, "µs"),
        Line(f"a remote no-op step, {engine.name}", "that", remote / own, "x", 1.5),
        Line(f"a split of {branches} branches that compute, here", "", here * 1e3, "ms"),
        Line(gain, "here", here / there, "x"),
    ]


class Open:
    """An open executor, which a kernel neither opens nor closes."""

    remote = True

    def __init__(self, executor: Executor) -> None:
        self.submit = executor.submit


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.executors", description=__doc__)
    parser.add_argument("--engines", default="process,futures,dask", help=f"some of {','.join(ENGINES)}")
    parser.add_argument("--steps", type=int, default=1_000, help="steps of a run")
    parser.add_argument("--branches", type=int, default=64, help="branches of the split")
    parser.add_argument("--work", type=int, default=200_000, help="turns of each branch's loop")
    parser.add_argument("--workers", type=int, default=2, help="worker processes")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    names = given.engines.split(",")
    sizes = given.steps, given.branches, given.work, given.workers, given.rounds
    print(table(asyncio.run(measured(names, *sizes))))


if __name__ == "__main__":
    main()
