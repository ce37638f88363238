"""A worker that drains: which runs leave, and when. tests/acceptance/durability/test_submitted.py has the processes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from cano import Kernel, RunStatus, SubWorkflow, Workflow, current_step, wait_for
from cano_cli.draining import WorkerRuns

from tests.waiting import until


class Work:
    """Workflows whose first step waits until it may end, and the steps that were begun."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.started, self.gate = asyncio.Event(), asyncio.Event()
        self.child = self._flow("child")
        self.parent: Workflow[Any] = Workflow("sub", name="parent").register(
            "sub", SubWorkflow(self.child, then="last")
        )
        self.parent.register("last", self._last).add_exit_state("end")
        self.asking: Workflow[Any] = Workflow("ask", name="asking").register("ask", self._ask)
        self.asking.register("last", self._last).add_exit_state("end")

    def _flow(self, name: str) -> Workflow[Any]:
        return (
            Workflow("first", name=name)
            .register("first", self._first)
            .register("last", self._last)
            .add_exit_state("end")
        )

    async def _first(self, store: Any) -> str:
        self.begun.append(f"{current_step().workflow} first")
        self.started.set()
        await self.gate.wait()
        return "last"

    async def _ask(self, store: Any) -> Any:
        await self._first(store)
        return wait_for("go", then="last")

    async def _last(self, store: Any) -> str:
        self.begun.append(f"{current_step().workflow} last")
        return "end"

    async def drained(self, url: str, flow: Workflow[Any], grace: float = 60) -> WorkerRuns:
        """Execute a run in a worker that is to drain in the middle of the first step."""
        runs = WorkerRuns()
        async with Kernel(store=url, plugins=[runs]) as kernel:
            await kernel.submit(flow, run_id="r")
            await kernel.recover(flow, concurrency=1)
            await self.started.wait()
            draining = asyncio.ensure_future(runs.drain(kernel, grace))
            await until(lambda: kernel.closed)
            if grace > 1:
                self.gate.set()
            await draining
        return runs


@pytest.fixture
def url(tmp_path: Path) -> str:
    """The URL of a store."""
    return f"sqlite:///{tmp_path / 'runs.db'}"


async def test_a_child_leaves_with_its_parent(url: str) -> None:
    """After the commit of a child's step both leave; the child's next step begins in the next process only."""
    work = Work()
    runs = await work.drained(url, work.parent)
    assert work.begun == ["child first"]
    assert (runs.executing, runs.begun, runs.ended["interrupted"], runs.cut_off) == (set(), 1, 1, 0)
    async with Kernel(store=url) as kernel:
        assert {run.seq: run.status for run in await kernel.runs()} == dict.fromkeys((0, 1), RunStatus.INTERRUPTED)
        assert (await kernel.run(work.parent, run_id="r")).state == "end"
    assert work.begun == ["child first", "child last", "parent last"]


async def test_a_child_that_ends_lets_its_parent_commit(url: str) -> None:
    """The step of the parent has what it waited for: it reaches its own commit, and the parent leaves after that."""
    work = Work()
    short: Workflow[Any] = Workflow("first", name="short").register("first", work._first).add_exit_state("last")
    parent: Workflow[Any] = Workflow("sub", name="parent").register("sub", SubWorkflow(short, then="last"))
    runs = await work.drained(url, parent.register("last", work._last).add_exit_state("end"))
    assert (work.begun, runs.ended["interrupted"], runs.cut_off) == (["short first"], 1, 0)
    async with Kernel(store=url) as kernel:
        view = await kernel.get("r")
        assert (view.status, view.state, view.seq) == (RunStatus.INTERRUPTED, "last", 1)


async def test_a_run_that_is_to_be_parked_is_parked(url: str) -> None:
    """A step that ends in a wait parks the run as ever: it counts as parked, and the next process continues it."""
    work = Work()
    runs = await work.drained(url, work.asking)
    assert (runs.ended["parked"], runs.ended["interrupted"], runs.cut_off) == (1, 0, 0)
    async with Kernel(store=url) as kernel:
        assert (await kernel.get("r")).status is RunStatus.PARKED
        await kernel.signal("r", "go")
        assert (await kernel.run(work.asking, run_id="r")).state == "end"
    assert work.begun == ["asking first", "asking last"]


async def test_a_run_at_its_end_ends(url: str) -> None:
    """A run whose step leads to an exit state ends in it, and is not interrupted."""
    work = Work()
    short: Workflow[Any] = Workflow("first", name="short").register("first", work._first).add_exit_state("last")
    runs = await work.drained(url, short)
    assert (runs.ended["succeeded"], runs.ended["interrupted"]) == (1, 0)
    assert str(runs) == "1 run begun, 1 succeeded"


async def test_a_step_that_outlasts_the_grace_is_cut_off(url: str) -> None:
    """It is counted, and begins again in another process."""
    work = Work()
    runs = await work.drained(url, work.child, grace=0.01)
    assert str(runs) == "1 run begun, 1 interrupted; 1 step cut off"
    work.gate.set()
    async with Kernel(store=url) as kernel:
        await kernel.run(work.child, run_id="r")
    assert work.begun == ["child first", "child first", "child last"]


async def test_metrics_do_not_wait_for_a_store_that_does_not_answer(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe gets them without the sizes of queues, so that an outage of the store restarts no worker."""
    monkeypatch.setattr("cano_cli.draining.PATIENCE", 0.01)
    runs = WorkerRuns()
    async with Kernel(store=url, plugins=[runs]) as kernel:
        monkeypatch.setattr(kernel.required_keeper(), "queue_sizes", asyncio.Event().wait)
        text = await runs.metrics(kernel, 3)
    assert "\ncano_worker_concurrency 3\n" in text
    assert "# TYPE cano_worker_queue_runs gauge\n# HELP" in text
