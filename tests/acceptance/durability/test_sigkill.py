"""Promise 1: SIGKILL at any instant, any number of times, and every run ends as it would have ended."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cano import Kernel

PROGRAM = Path(__file__).with_name("shop.py")
KILLS = {"sqlite": 24} if not os.environ.get("CANO_SOAK") else {"sqlite": 200, "postgresql": 200, "redis": 100}
PAID = 4
EXPECTED = {
    "packed": 40,
    "paid": PAID,
    "rests": 4,
    "items": list(range(40)),
    "shipped": ["left", "right"] * 4,
}


def program(url: str, run_id: str, provider: Path) -> subprocess.Popen[str]:
    env = os.environ | {"CANO_BLOCK": "structlog,otel"}
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), url, run_id, str(provider)], stdout=subprocess.PIPE, text=True, env=env
    )


def run_and_kill(url: str, run_id: str, provider: Path, after: int | None) -> Any:
    """Run the program; kill it when it has printed `after` lines. The result it printed, or None."""
    result = None
    with program(url, run_id, provider) as child:
        assert child.stdout is not None
        for number, line in enumerate(child.stdout):
            if line.startswith("result "):
                result = json.loads(line.removeprefix("result "))
            if number == after:
                child.kill()
                break
        child.stdout.read()
    assert child.returncode in (0, -9)
    return result


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_killed_at_random_instants(store_url: str, tmp_path: Path) -> None:
    """Every run recovers; each transition is committed once; counters are exact; each charge is seen once."""
    seed = int(os.environ.get("CANO_SEED", random.SystemRandom().randrange(10**6)))
    print("seed", seed)  # shown where the test fails
    chance = random.Random(seed)
    kills = runs = 0
    while kills < KILLS.get(store_url.partition(":")[0], 8):
        runs += 1
        run_id, provider = f"order-{runs}", tmp_path / f"provider-{runs}"
        result = None
        for _ in range(12):
            if (result := run_and_kill(store_url, run_id, provider, chance.randrange(1, 30))) is not None:
                break
            kills += 1
        if result is None:
            result = run_and_kill(store_url, run_id, provider, None)
        assert result == ["DONE", EXPECTED]

    async with Kernel(store=store_url) as kernel:
        for number in range(1, runs + 1):
            history = await kernel.history(f"order-{number}")
            assert [line.seq for line in history] == list(range(len(history)))
            assert sum(line.state == "PAY" for line in history) == PAID
            charges = (tmp_path / f"provider-{number}").read_text().split()
            assert len(set(charges)) == PAID
        assert await kernel.check() == []


async def test_killed_between_start_and_first_step(store_url: str, tmp_path: Path) -> None:
    """A run that was killed at once is there, and goes on from its beginning."""
    provider = tmp_path / "provider"

    assert run_and_kill(store_url, "order", provider, 0) is None
    assert run_and_kill(store_url, "order", provider, None) == ["DONE", EXPECTED]


async def test_uncrashed_run(store_url: str, tmp_path: Path) -> None:
    """What the others are compared with: nobody kills it, and each charge is made exactly once."""
    provider = tmp_path / "provider"

    assert run_and_kill(store_url, "order", provider, None) == ["DONE", EXPECTED]
    assert len(provider.read_text().split()) == PAID


async def test_same_id_from_two_processes(store_url: str, tmp_path: Path) -> None:
    """Two processes start one run id at once: exactly one drives it, and both get the same result."""
    provider = tmp_path / "provider"
    children = [program(store_url, "order", provider) for _ in range(2)]
    lines = [child.communicate(timeout=60)[0].splitlines() for child in children]

    results = [
        [json.loads(line.removeprefix("result ")) for line in each if line.startswith("result ")] for each in lines
    ]
    assert results == [[["DONE", EXPECTED]], [["DONE", EXPECTED]]]
    assert len(provider.read_text().split()) == PAID
    committed = [line for each in lines for line in each if line.startswith("committed")]
    assert len(committed) == len(set(committed))
