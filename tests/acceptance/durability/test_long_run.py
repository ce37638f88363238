"""One run makes very many transitions: memory stays flat, and what a resume has to read does not grow."""

from __future__ import annotations

import gc
import os
import sqlite3
import tracemalloc
from pathlib import Path

import pytest
from cano import Kernel, KeyValueStore, TaskError, Workflow

STEPS = 100_000 if os.environ.get("CANO_SOAK") else 4_000
SNAPSHOT_EVERY = 100


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_long_run(tmp_path: Path) -> None:
    """Memory is what it was at a quarter of the way; the tail to read is bounded; the run ends as it should."""
    path = tmp_path / "long.db"
    url = f"sqlite:///{path}?synchronous=normal&snapshot_every={SNAPSHOT_EVERY}"
    held: dict[int, int] = {}
    broken = True

    async def count(store: KeyValueStore) -> str:
        step = store["step"] + 1
        store["step"] = step
        if step in (STEPS // 4, STEPS // 2, STEPS - 1):
            gc.collect()
            held[step] = tracemalloc.get_traced_memory()[0]
        if step == STEPS and broken:
            raise RuntimeError("at the very end")
        return "end" if step == STEPS else "count"

    flow = Workflow("count", name="long").register("count", count).add_exit_state("end")
    async with Kernel(store=url, block=["retry"]) as kernel:
        tracemalloc.start()
        with pytest.raises(TaskError):
            await kernel.run(flow, {"step": 0, "label": "x" * 1000}, run_id="long")
        tracemalloc.stop()
        with sqlite3.connect(path) as connection:
            [(tail,)] = connection.execute("SELECT tail FROM runs WHERE run_id = 'long'").fetchall()
        connection.close()
        broken = False
        result = await kernel.resume(flow, "long")

    first, second, last = held.values()
    assert max(second, last) - first < 100_000
    assert 0 <= tail <= SNAPSHOT_EVERY
    assert (result.state, result.steps, result.data["step"]) == ("end", STEPS, STEPS)
