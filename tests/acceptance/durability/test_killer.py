"""A step that kills its process every time, in real processes."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

from cano import Kernel, RunStatus

PROGRAM = """
import asyncio, os, signal, sys
from typing import Any, Literal
from cano import Kernel, Workflow

flow = Workflow("EAT", name="killer", max_takeovers=3).add_exit_state("FED")

@flow.on("EAT")
async def eat(store: Any) -> Literal["FED"]:
    os.kill(os.getpid(), signal.SIGKILL)
    return "FED"

async def main() -> None:
    async with Kernel(store=sys.argv[1]) as kernel:
        for handle in await kernel.recover(flow):
            await handle.result()
        await kernel.run(flow, run_id="r")

asyncio.run(main())
"""


def test_a_step_that_kills_its_process_is_given_up(tmp_path: Path) -> None:
    """It is started once and taken over three times; the fifth process lives, and says why the run has failed."""
    url = f"sqlite:///{tmp_path}/runs.db"
    for _ in range(4):
        assert subprocess.run([sys.executable, "-c", PROGRAM, url], capture_output=True).returncode == -signal.SIGKILL
    last = subprocess.run([sys.executable, "-c", PROGRAM, url], capture_output=True, text=True)
    assert last.returncode == 1
    assert "StepKilledError: the step in state EAT killed 4 processes" in last.stderr
    asyncio.run(_seen(url))


async def _seen(url: str) -> None:
    async with Kernel(store=url) as kernel:
        assert [record.status for record in await kernel.runs()] == [RunStatus.FAILED]
        assert [finding.kind for finding in await kernel.check()] == ["killed processes"]
