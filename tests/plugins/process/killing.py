"""A worker is killed in the middle of a step: what holds for every executor with worker processes."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from cano import Executor, Kernel, RunResult, RunStatus
from cano.testing.contract_executor import appears

from tests.plugins.process.programs import State, flow


async def run_with_a_killed_worker(kernel: Kernel, folder: Path) -> RunResult:
    """Execute the run `r`, and kill the worker that executes its step; another one executes it in the same attempt."""
    data: dict[str, Any] = {"parent": os.getpid(), "folder": str(folder), "does": "hold"}
    run = asyncio.ensure_future(kernel.run(flow(), data, run_id="r"))
    began = folder / "began"
    await appears(began)
    pid = int(began.read_text())
    began.unlink()
    os.kill(pid, signal.SIGKILL)
    await appears(began)
    (folder / "go").touch()
    result = await run
    assert (result.state, result.data["told"][5]) == (State.DONE, 1)
    return result


async def check_that_a_stored_run_survives(store: str, executor: Executor, folder: Path) -> None:
    """The step of a stored run, whose worker was killed, is committed once."""
    async with Kernel(store=store, executor={"cpu": executor}) as kernel:
        await run_with_a_killed_worker(kernel, folder)

        assert len([entry for entry in await kernel.history("r") if entry.seq]) == 1
        assert (await kernel.get("r")).status is RunStatus.SUCCEEDED
