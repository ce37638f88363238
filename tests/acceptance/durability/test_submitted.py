"""Submitted runs and real workers: killed at random, drained, and woken by another process."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cano import Kernel, Lane, RunStatus, Standstill

from tests.acceptance.durability.crowd import GATE, crowd, gate, question
from tests.acceptance.durability.workers import Told, Workers

RUNS, STEPS, KILLS, CONCURRENCY = 200, 3, 4, 5


@pytest.fixture
def open_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], object]]:
    """A function that lets all steps through the gate."""
    path = tmp_path / "gate"
    os.mkfifo(path)
    monkeypatch.setenv(GATE, str(path))
    file = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    yield lambda: os.write(file, b"x")
    os.close(file)


@pytest.fixture(params=["sqlite", "postgres", "redis"])
def shared(request: pytest.FixtureRequest, url_of: Callable[[str], str]) -> str:
    """The URL of a store that processes share."""
    return url_of(request.param)


@pytest.fixture
def workers(shared: str) -> Iterator[Workers]:
    """The workers on that store."""
    workers = Workers(shared)
    yield workers
    workers.kill()


async def page(url: str, wanted: Callable[[str], bool]) -> None:
    """Ask for a page until it is as wanted."""

    def read() -> str:
        try:
            with urllib.request.urlopen(url) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            return f"{error.code} {error.read().decode()}"

    while not wanted(await asyncio.to_thread(read)):
        pass


@pytest.mark.timeout(300)
async def test_submitted_runs_outlive_their_workers(shared: str, workers: Workers, told: Told) -> None:
    """Two workers, kill -9 at random: all runs end, each transition is there once, and none takes more than it may."""
    chance = random.Random(os.environ.get("CANO_SEED", "7"))
    options = ["--concurrency", str(CONCURRENCY), "--lease", "15"]
    async with Kernel(store=shared, poll=0.1) as kernel:
        assert await kernel.submit_many(crowd, ({"n": number} for number in range(RUNS)), run_id="r") == RUNS
        assert await kernel.runs(status=RunStatus.QUEUED).count() == RUNS
        assert not told.lines
        for _ in range(2):
            workers.start("crowd", *options)
        for kill in range(1, KILLS + 1):
            await told.reached(kill * RUNS * STEPS * 3 // (4 * KILLS))
            victim = workers.processes.pop(chance.randrange(2))
            victim.kill()
            victim.communicate()
            workers.start("crowd", *options)
        for number in range(1, RUNS + 1):
            result = await (await kernel.attach(f"r-{number}")).result()
            assert (result.state, result.data) == ("end", {"n": number - 1, "count": STEPS})
            assert [entry.seq for entry in await kernel.history(f"r-{number}")] == list(range(STEPS + 1))
        assert await kernel.check() == []
    await told.reached(RUNS * STEPS)
    assert sum(told.begun.values()) <= RUNS * STEPS + KILLS * CONCURRENCY  # only the killed steps, once more
    busy, most = Counter[str](), 0
    for pid, what, *_ in told.lines:
        busy[pid] += 1 if what == "+" else -1
        most = max(most, busy[pid])
    assert 1 < most <= CONCURRENCY


@pytest.mark.timeout(300)
@pytest.mark.parametrize("shared", ["postgres"], indirect=True)
async def test_workers_of_queues_are_killed(
    shared: str, workers: Workers, told: Told, open_gate: Callable[[], object]
) -> None:
    """Four workers, three kill -9: each executes its queues only, begins by priority and keys in turn; no run is lost.

    The first claims are all made before the gate opens.
    """
    chance = random.Random(os.environ.get("CANO_SEED", "7"))
    lanes = {Lane("mail", 5, "a"): 60, Lane("mail", 5, "b"): 30, Lane("mail", 5, "c"): 30, Lane("mail"): 30}
    lanes[Lane("slow", 9)] = 50
    lane_of: dict[str, Lane] = {}
    served = dict[int, str]()

    def start(queues: str) -> None:
        process = workers.start("gate", "--concurrency", f"{CONCURRENCY}", "--lease", "15", "--queues", queues)
        served[process.pid] = queues

    async with Kernel(store=shared, poll=0.1) as kernel:
        for lane, number in reversed(lanes.items()):
            queue, priority, key = lane
            ids = "-".join(map(str, lane))
            await kernel.submit_many(gate, [{}] * number, run_id=ids, queue=queue, priority=priority, key=key)
            lane_of |= {f"{ids}-{n}": lane for n in range(1, number + 1)}
        for queues in ("mail", "mail", "slow", "other, mail"):
            start(queues)
        await told.reached(4 * CONCURRENCY)
        assert len(told.lines) == 4 * CONCURRENCY
        for process in workers.processes:
            first = Counter(lane_of[run_id] for pid, _, run_id, _ in told.lines if int(pid) == process.pid)
            assert first.total() == CONCURRENCY
            if "mail" in served[process.pid]:
                assert [sorted(first), max(first.values())] == [[*lanes][:3], 2]
        open_gate()
        for kill in range(1, 4):
            await told.reached(kill * 100)
            victim = workers.processes.pop(chance.randrange(4))
            victim.kill()
            victim.communicate()
            start(served[victim.pid])
        for run_id in lane_of:
            result = await (await kernel.attach(run_id)).result()
            assert (result.state, result.data) == ("end", {"passed": 1})
            assert [entry.seq for entry in await kernel.history(run_id)] == [0, 1, 2]
        assert await kernel.check() == []
    await told.reached(2 * len(lane_of))
    assert sum(told.begun.values()) <= 2 * len(lane_of) + 3 * CONCURRENCY  # only the killed steps, once more
    for pid, _, run_id, _ in told.lines:
        assert lane_of[run_id].queue in served[int(pid)]


@pytest.mark.parametrize("shared", ["sqlite", "postgres"], indirect=True)
async def test_draining_loses_nothing(
    shared: str, workers: Workers, told: Told, open_gate: Callable[[], object]
) -> None:
    """After SIGTERM a worker claims no more, lets its steps reach their commits, and leaves; no step begins twice."""
    async with Kernel(store=shared) as kernel:
        await kernel.submit_many(gate, [{} for _ in range(8)], run_id="r")
        first, url = workers.watched("gate", "--concurrency", "3")
        await told.reached(3)
        first.send_signal(signal.SIGTERM)
        await page(url + "/healthz", lambda text: text == "503 draining\n")
        open_gate()
        assert (await asyncio.to_thread(first.wait), len(told.begun)) == (0, 3)
        assert first.communicate()[1].endswith("ended: 3 runs begun, 3 interrupted\n")
        assert len(await kernel.runs(status="queued")) == 5
        left = await kernel.runs(status="interrupted")
        assert [(run.seq, run.state) for run in left] == [(1, "then")] * 3
        workers.start("gate")
        for number in range(1, 9):
            assert (await (await kernel.attach(f"r-{number}")).result()).state == "end"
    assert set(told.begun.values()) == {1}


@pytest.mark.parametrize("shared", ["sqlite"], indirect=True)
async def test_who_cannot_wait_cuts_steps_off(
    shared: str, workers: Workers, told: Told, open_gate: Callable[[], object]
) -> None:
    """A step that outlasts the grace is cut off, with exit code 1; a second signal ends the worker at once."""
    async with Kernel(store=shared) as kernel:
        await kernel.submit(gate, run_id="r")
        hasty = workers.start("gate", "--grace", "0.05")
        await told.reached(1)
        hasty.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(hasty.wait) == 1
        assert hasty.communicate()[1].endswith("1 run begun, 1 interrupted; 1 step cut off\n")
        assert (await kernel.explain("r")).reason is Standstill.INTERRUPTED
        patient, url = workers.watched("gate")
        await told.until(lambda: told.begun["r 1"] == 2)
        patient.send_signal(signal.SIGTERM)
        await page(url + "/healthz", lambda text: text == "503 draining\n")
        patient.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(patient.wait) == -signal.SIGTERM
        workers.start("gate")
        open_gate()
        assert (await (await kernel.attach("r")).result()).state == "end"


async def test_a_signal_wakes_a_run_in_a_worker(shared: str, workers: Workers) -> None:
    """A process that executes nothing signals a parked run; a worker continues it, and its metrics say so."""
    async with Kernel(store=shared) as kernel:
        attached = await kernel.submit(question)
        process, url = workers.watched("question")
        await page(url + "/metrics", lambda text: 'runs_ended_total{status="parked"} 1\n' in text)
        assert await attached.signal("go", "yes")
        assert (await attached.result()).data == {"answer": "yes", "pid": process.pid}
        await page(url + "/metrics", lambda text: 'runs_ended_total{status="succeeded"} 1\n' in text)
        await page(url + "/healthz", lambda text: text == "ok\n")
        await page(url + "/elsewhere", lambda text: text.startswith("404 "))
