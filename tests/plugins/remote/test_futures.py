"""`FuturesExecutor`: calls in pools of the standard library."""

from __future__ import annotations

import multiprocessing
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import asynccontextmanager

import pytest
from cano import ConfigurationError, Executor, ExecutorUnavailableError, WorkerLostError
from cano.testing import ExecutorContract, executor_calls
from cano.testing.contract_executor import call_of
from cano_remote import FuturesExecutor


class TestThreads(ExecutorContract):
    """A pool of threads, which are all in this process."""

    loses_workers = False

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Executor]:
        """Provide a pool of two threads."""
        with ThreadPoolExecutor(2) as pool:
            yield FuturesExecutor(pool)


class TestProcesses(ExecutorContract):
    """A pool of processes, which is broken after one of them was killed."""

    loses_workers = False

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Executor]:
        """Provide a pool of two processes."""
        with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
            yield FuturesExecutor(pool)


async def test_a_broken_pool() -> None:
    """The call whose process is killed ends in WorkerLostError; later ones say that the pool takes none."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        executor = FuturesExecutor(pool)
        with pytest.raises(WorkerLostError):
            await executor.submit(call_of(executor_calls.die))
        with pytest.raises(ExecutorUnavailableError, match="takes no calls any more"):
            await executor.submit(call_of(executor_calls.echo))


def test_not_a_pool() -> None:
    """What is no pool is refused."""
    with pytest.raises(ConfigurationError, match="must be a concurrent"):
        FuturesExecutor(ThreadPoolExecutor)  # type: ignore[arg-type]
