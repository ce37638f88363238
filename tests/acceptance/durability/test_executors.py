"""Tasks in worker processes, in stored runs: a killed worker or kernel repeats work, and commits it once."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cano import Kernel, RunStatus, Transition
from cano.testing.contract_executor import appears
from cano_process import ProcessExecutor

from tests.plugins.process.killing import check_that_a_stored_run_survives
from tests.plugins.process.programs import State, flow

pytestmark = pytest.mark.parametrize("store_url", ["sqlite", "postgres"], indirect=True)
PROGRAM = """
import asyncio, sys
from cano import Kernel
from tests.plugins.process.programs import flow

async def main(url, folder):
    async with Kernel(store=url, executor={"cpu": "process://?workers=1"}, lease=15) as kernel:
        await kernel.run(flow(), {"parent": 0, "folder": folder, "does": "hold"}, run_id="r")

if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
"""


async def steps(kernel: Kernel) -> list[Transition]:
    """The steps that a run has committed."""
    return [entry for entry in await kernel.history("r") if entry.seq]


async def test_a_worker_is_killed_in_mid_step(store_url: str, tmp_path: Path) -> None:
    """Another worker executes the task again; one step is committed, in the first attempt."""
    await check_that_a_stored_run_survives(store_url, ProcessExecutor(1), tmp_path)


async def test_a_kernel_is_killed_in_mid_step(store_url: str, tmp_path: Path) -> None:
    """Another kernel takes the run over, and its worker executes the task; the first one's worker is gone."""
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, str(tmp_path / "program.py"), store_url, str(tmp_path)]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen(command, env=env) as process:  # noqa: ASYNC220  # it takes a moment
        await appears(tmp_path / "began")
        process.kill()
    pid = int((tmp_path / "began").read_text())
    (tmp_path / "began").unlink()

    async with Kernel(store=store_url, executor={"cpu": ProcessExecutor(1)}, poll=0.05) as kernel:
        result: Any = asyncio.ensure_future(kernel.run(flow(), run_id="r"))
        await appears(tmp_path / "began")
        assert int((tmp_path / "began").read_text()) != pid
        (tmp_path / "go").touch()
        assert (await result).state is State.DONE
        assert len(await steps(kernel)) == 1
        assert (await kernel.get("r")).status is RunStatus.SUCCEEDED
