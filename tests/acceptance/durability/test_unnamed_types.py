"""A commit takes nothing that the next process cannot read, and the script's classes are known to all by one name."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from cano import Kernel, RunStatus

FOLDER = Path(__file__).parent
ENVIRONMENT = os.environ | {"CANO_BLOCK": "structlog,otel"}


async def said(*arguments: str, died: bool = False) -> str:
    """What a new process of the program prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, env=ENVIRONMENT, cwd=FOLDER, stdout=subprocess.PIPE
    )
    printed, _ = await process.communicate()
    assert process.returncode == (-signal.SIGKILL if died else 0)
    return printed.decode().strip()


async def test_a_class_that_nothing_names(store_url: str) -> None:
    """The commit refuses it, so the run has failed and is not stuck. Once the class is named, a kill does no harm."""
    refused = await said("basket.py", store_url, "unnamed", "run", "dies")
    assert refused.startswith(
        "run one, key 'basket': cannot encode the value: the class 'basket:Basket' is not registered"
    )
    assert "Workflow(types=[Basket])" in refused
    async with Kernel(store=store_url) as kernel:
        assert [(run.status, run.state) for run in await kernel.runs()] == [(RunStatus.FAILED, "FILL")]
    await said("basket.py", store_url, "named", "resume", "dies", died=True)
    worker = "import asyncio, basket, sys; asyncio.run(basket.main(*sys.argv[1:]))"  # it imports what was the script
    ended = await said("-c", worker, store_url, "named", "run", "lives")
    assert ended == "DONE {'basket': Basket(items=['lamp']), 'count': 1}"
