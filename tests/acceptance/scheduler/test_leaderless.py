"""Promise 11: N processes on one store fire each nominal time once, whatever happens to them, and lose none."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import random
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
from cano import RunStatus
from cano_scheduler import Tick

from tests.acceptance.scheduler.replica import INTERVAL, kernel_on, scheduler_on

ROOT = Path(__file__).parents[3]
PROCESSES = 5
TICKS = 300 if os.environ.get("CANO_SOAK") == "1" else 60
REASONS = {None, "misfire", "overlap", "queue full", "queued", "paused"}


class Replicas:
    """The processes, and all that they say, in the order in which it is read."""

    def __init__(self, *arguments: str) -> None:
        self.said: queue.Queue[tuple[int, str]] = queue.Queue()
        self.running: list[subprocess.Popen[str]] = []
        self._arguments = arguments
        self._listeners: list[threading.Thread] = []

    def start(self, *more: str) -> subprocess.Popen[str]:
        """Start one more."""
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.acceptance.scheduler.replica", *self._arguments, *more],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.running.append(process)
        listener = threading.Thread(target=self._listen, args=(process,))
        listener.start()
        self._listeners.append(listener)
        return process

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if line.endswith("\n"):  # a process that is killed may leave half a line
                self.said.put((process.pid, line.strip()))
        process.stdout.close()

    def kill(self, process: subprocess.Popen[str]) -> None:
        """Kill one with SIGKILL."""
        self.running.remove(process)
        process.kill()
        process.wait()
        if process.stdin is not None:
            process.stdin.close()

    def stop(self) -> list[int]:
        """Let all of them end; their exit codes."""
        for process in self.running:
            assert process.stdin is not None
            process.stdin.close()
        codes = [process.wait(60) for process in self.running]
        self.running.clear()
        for listener in self._listeners:
            listener.join()
        return codes

    def end(self) -> None:
        """Leave none behind, whatever has failed."""
        for process in list(self.running):
            self.kill(process)
        for listener in self._listeners:
            listener.join()


def nominal_times(tick: Tick) -> list[int]:
    """The nominal times that a tick stands for."""
    assert tick.nominal_us is not None
    return [tick.nominal_us + number * round(INTERVAL * 1e6) for number in range(tick.times)]


@pytest.mark.timeout(300)
async def test_every_nominal_time_is_decided_once(store_url: str, tmp_path: Path) -> None:
    """Five processes on one store, killed at random: each nominal time is fired, late or skipped, exactly once."""
    effects = str(tmp_path / "effects.txt")
    chance, said, kills = random.Random(os.environ.get("CANO_SEED", "5")), list[str](), 0
    replicas = Replicas(store_url, effects)
    try:
        for _ in range(PROCESSES):
            replicas.start()
        ready, decided = 0, 0
        while decided < TICKS or ready < PROCESSES:
            _, line = replicas.said.get(timeout=60)
            if line == "ready":
                ready += 1
                continue
            said.append(line)
            schedule, _, _, _, count = json.loads(line)
            decided += count if schedule == "all" else 0
            if ready >= PROCESSES and chance.random() < 0.04:
                kills += 1
                replicas.kill(chance.choice(replicas.running))
                replicas.start()
        assert replicas.stop() == [0] * PROCESSES
        assert replicas.start("drain").wait(100) == 0
    finally:
        replicas.end()
    assert kills > 0
    while not replicas.said.empty():
        _, line = replicas.said.get()
        said += [] if line in ("ready", "drained") else [line]
    firsts = Counter((schedule, nominal) for schedule, _, _, nominal, _ in map(json.loads, said))
    assert [first for first, number in firsts.items() if number > 1] == []

    written = await asyncio.to_thread(lambda: Path(effects).read_text().splitlines())
    async with kernel_on(store_url) as kernel:
        scheduler = scheduler_on(kernel, effects)
        for info in await scheduler.list():
            ticks = await scheduler.history(info.id)
            times = [time for tick in ticks for time in nominal_times(tick)]
            begin, end = min(times), max(times)
            expected = range(begin, end + 1, round(INTERVAL * 1e6))
            assert sorted(times) == list(expected), f"{info.id}: a nominal time is missing, or there twice"
            assert {tick.reason for tick in ticks} <= REASONS
            assert info.fired + info.late + info.skipped == len(expected)
            assert (info.running, info.queued) == ((), ())

            fired = [tick.run_id for tick in ticks if tick.outcome != "skipped"]
            runs = {run.run_id: run async for run in kernel.runs(workflow=info.id)}
            assert sorted(runs) == sorted(str(run_id) for run_id in fired)
            assert {run.status for run in runs.values()} == {RunStatus.SUCCEEDED}
            for run_id in runs:
                assert [line.seq for line in await kernel.history(run_id)] == [0, 1, 2]
            for step in ("WORK", "REPORT"):
                assert {f"{step} {run_id}" for run_id in runs} == {
                    line for line in written if line.startswith(f"{step} {info.id}@")
                }
        assert await kernel.check() == []
