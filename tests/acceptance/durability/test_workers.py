"""Promises 1 and 2 for a crowd: workers on one server, killed at random, make each transition of many runs once."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from cano import Kernel, RunStatus

from tests.acceptance.durability.errand import BEGUN, STEPS, flow
from tests.servers.postgres import PostgresServer

ROOT = Path(__file__).parents[3]
WORKERS = 4
RUNS, KILLS = (2000, 40) if os.environ.get("CANO_SOAK") else (300, 6)


def worker(url: str, begun: Path) -> subprocess.Popen[bytes]:
    """The command-line worker, which takes over whatever nobody drives."""
    arguments = ["recover", "tests.acceptance.durability.errand:flow", "--watch", "--store", url, "--lease", "3"]
    environment = os.environ | {"CANO_BLOCK": "structlog,otel", BEGUN: str(begun)}
    return subprocess.Popen(
        [sys.executable, "-m", "cano_cli.main", *arguments], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL
    )


async def hand_in(url: str) -> list[str]:
    """Start the runs, and let go of them at once."""
    run_ids = [f"errand-{number}" for number in range(RUNS)]
    async with Kernel(store=url, grace=0) as kernel:
        for run_id in run_ids:
            await kernel.start(flow, run_id=run_id)
    return run_ids


async def grown(begun: Path, lines: int) -> None:
    """Return when so many steps were begun."""
    while not begun.exists() or begun.stat().st_size < lines * len("errand-0 0\n"):  # noqa: ASYNC110  # it is a file
        await asyncio.sleep(0.01)


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_workers_are_killed_at_random(postgres: PostgresServer, tmp_path: Path) -> None:
    """Four workers, random kill -9 among them: every run ends right, and each transition is there once."""
    url, begun = postgres.new_url(), tmp_path / "begun"
    chance = random.Random(os.environ.get("CANO_SEED", "7"))
    run_ids = await hand_in(url)
    workers = [worker(url, begun) for _ in range(WORKERS)]
    try:
        for kill in range(1, KILLS + 1):
            await grown(begun, kill * RUNS * STEPS // (2 * KILLS))  # while half of the steps is still to be made
            victim = workers.pop(chance.randrange(WORKERS))
            victim.kill()
            victim.wait()
            workers.append(worker(url, begun))
        async with Kernel(store=url) as kernel:
            while len(await kernel.runs(status=RunStatus.SUCCEEDED)) < RUNS:
                await asyncio.sleep(0.1)
            for run_id in run_ids:
                history = await kernel.history(run_id)
                assert [line.seq for line in history] == list(range(STEPS + 1))
                result = await kernel.run(flow, run_id=run_id)
                assert result.data == {"count": STEPS, "seqs": list(range(STEPS))}
            assert await kernel.check() == []
    finally:
        for each in workers:
            each.kill()
            each.wait()
    steps = Counter(begun.read_text().splitlines())
    assert set(steps) == {f"{run_id} {seq}" for run_id in run_ids for seq in range(STEPS)}
