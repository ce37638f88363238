"""Two worker processes for all tests of this folder."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from cano import Call, Kernel
from cano_process import ProcessExecutor


class Shared:
    """An executor that kernels do not close."""

    remote = True
    resources: frozenset[str] = frozenset()

    def __init__(self, executor: ProcessExecutor) -> None:
        self.executor = executor

    async def submit(self, call: Call) -> Any:
        """Execute the call."""
        return await self.executor.submit(call)


@pytest.fixture(scope="session")
def workers() -> Iterator[Shared]:
    """Two worker processes."""
    executor = ProcessExecutor(2)
    yield Shared(executor)
    asyncio.run(executor.close())


@pytest.fixture
async def kernel(workers: Shared) -> AsyncIterator[Kernel]:
    """A kernel without retries, whose executor "cpu" has two processes."""
    async with Kernel(executor={"cpu": workers}, block=["retry"]) as kernel:
        yield kernel


@pytest.fixture
def data(tmp_path: os.PathLike[str]) -> dict[str, Any]:
    """What the tasks need."""
    return {"parent": os.getpid(), "folder": str(tmp_path)}
