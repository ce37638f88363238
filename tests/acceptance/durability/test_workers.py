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
from cano import Kernel

from tests.acceptance.durability.errand import BEGUN, LET_GO, STEPS, flow
from tests.acceptance.durability.pipes import LinePipe
from tests.servers.postgres import PostgresServer

ROOT = Path(__file__).parents[3]
WORKERS = 4
RUNS, KILLS = (2000, 40) if os.environ.get("CANO_SOAK") else (300, 6)


def worker(url: str) -> subprocess.Popen[bytes]:
    """The command-line worker, which takes over whatever nobody drives."""
    arguments = ["recover", "tests.acceptance.durability.errand:flow", "--watch", "--store", url, "--lease", "3"]
    environment = os.environ | {"CANO_BLOCK": "structlog,otel"}
    return subprocess.Popen(
        [sys.executable, "-c", "from cano_cli.main import main; main()", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
    )


async def hand_in(url: str) -> list[str]:
    """Start the runs, and let go of them at once."""
    run_ids = [f"errand-{number}" for number in range(RUNS)]
    LET_GO.clear()
    async with Kernel(store=url, grace=0) as kernel:
        for run_id in run_ids:
            await kernel.start(flow, run_id=run_id)
    LET_GO.set()
    return run_ids


class Begun(LinePipe):
    """The steps that were begun, read from a pipe as the workers write them."""

    def __init__(self, path: Path) -> None:
        self.steps: Counter[str] = Counter()
        super().__init__(path, lambda line: self.steps.update([line]))

    async def reached(self, steps: int) -> None:
        """Return when `steps` different steps have begun."""
        await self.until(lambda: len(self.steps) >= steps)


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_workers_are_killed_at_random(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four workers, random kill -9 among them: every run ends right, and each transition is there once."""
    url, path = postgres.new_url(), tmp_path / "begun"
    chance = random.Random(os.environ.get("CANO_SEED", "7"))
    monkeypatch.setenv(BEGUN, str(path))
    begun = Begun(path)
    run_ids = await hand_in(url)
    assert not begun.steps
    workers = [worker(url) for _ in range(WORKERS)]
    try:
        for kill in range(1, KILLS + 1):
            await begun.reached(kill * RUNS * STEPS * 3 // (4 * KILLS))  # a quarter is made after the last one
            victim = workers.pop(chance.randrange(WORKERS))
            victim.kill()
            victim.wait()
            workers.append(worker(url))
        async with Kernel(store=url) as kernel:
            results = await asyncio.gather(*(kernel.run(flow, run_id=run_id) for run_id in run_ids))
            assert [result.data for result in results] == [{"count": STEPS, "seqs": list(range(1, STEPS + 1))}] * RUNS
            for run_id in run_ids:
                assert [line.seq for line in await kernel.history(run_id)] == list(range(STEPS + 1))
            assert await kernel.check() == []
        await begun.reached(RUNS * STEPS)
        assert set(begun.steps) == {f"{run_id} {seq}" for run_id in run_ids for seq in range(1, STEPS + 1)}
    finally:
        for each in workers:
            each.kill()
            each.wait()
        begun.close()
