"""The progress that a step reports: when it is stored, that it is not stored too often, and who sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from cano import Kernel, Progress, RunStatus, TaskConfig, TaskError, Workflow, current_step, wait_for
from cano_durability.looking.progress import INTERVAL

if TYPE_CHECKING:
    from tests.plugins.durability.conftest import World


class Job:
    """A workflow whose first step reports when a test says so.

    Attributes:
        report: reports the step's progress.
        gate: lets the step end.
        broken: whether it then fails.
    """

    def __init__(self) -> None:
        self.report: Callable[..., None]
        self.gate = asyncio.Event()
        self.begun = asyncio.Event()
        self.broken = False
        self.flow: Workflow[str] = Workflow("work", name="job").add_exit_state("end")
        self.flow.register("work", self.work).register("rest", self.rest)

    async def work(self, store: Any) -> str:
        """Wait."""
        self.report = current_step().progress
        self.begun.set()
        await self.gate.wait()
        if self.broken:
            raise ValueError("broken")
        return "rest"

    async def rest(self, store: Any) -> str:
        """End."""
        return "end"


@pytest.fixture
async def job(kernel: Kernel) -> Job:
    """A job whose first step has begun."""
    job = Job()
    await kernel.start(job.flow, {}, run_id="r")
    await job.begun.wait()
    return job


def commits(world: World, kernel: Kernel) -> list[int]:
    """A list to which each later commit of a kernel adds 1."""
    made: list[int] = []
    backend: Any = world.store(kernel).backend
    commit = backend.commit

    async def counted(*arguments: Any) -> None:
        made.append(1)
        await commit(*arguments)

    backend.commit = counted
    return made


async def test_another_process_sees_it(kernel: Kernel, world: World, job: Job) -> None:
    """It is stored after half a second, and gone after the step; the process itself knows it at once."""
    other = await world.kernel()
    attached = await other.attach("r")
    job.report(3, 10, "pages")
    assert (await kernel.get("r")).progress == Progress(3, 10, "pages")
    assert await attached.progress() is None
    await world.clock.advance(INTERVAL)
    assert await attached.progress() == Progress(3, 10, "pages")
    handle = await other.start(job.flow, run_id="r")
    assert await handle.progress() == Progress(3, 10, "pages")
    assert handle.status().progress == Progress(3, 10, "pages")
    job.gate.set()
    await world.settle()

    assert (await other.get("r")).status is RunStatus.SUCCEEDED
    assert await attached.progress() is None
    assert (await world.look("r")).own == {}
    assert [entry.seq for entry in await other.history("r")] == [0, 1, 2]


async def test_not_one_commit_per_call(kernel: Kernel, world: World, job: Job) -> None:
    """Many reports are one write, a step shorter than half a second makes none, and a long one makes few."""
    made = commits(world, kernel)
    for number in range(1000):
        job.report(number)
    await world.clock.advance(INTERVAL)
    assert len(made) == 1
    for number in range(1000):
        job.report(number)
        await world.clock.advance(10)
    assert 100 < len(made) < 400
    last = len(made)
    await world.clock.advance(1000)  # without a report, there is nothing to write
    assert len(made) <= last + 1
    assert (await (await world.kernel()).get("r")).progress == Progress(999, None, None)

    made.clear()
    job.gate.set()
    await world.settle()
    assert len(made) == 2


async def test_a_failed_run_shows_how_far_it_came(kernel: Kernel, world: World, job: Job) -> None:
    """Until it is resumed: then its step begins again."""
    job.report(3, 10)
    await world.clock.advance(INTERVAL)
    job.broken = True
    job.gate.set()
    await world.settle()
    other = await world.kernel()
    assert (await other.get("r")).progress == Progress(3, 10, None)

    job.gate.clear()
    job.begun.clear()
    resumed = asyncio.ensure_future(other.resume(job.flow, "r"))
    await job.begun.wait()
    assert (await kernel.get("r")).progress is None
    job.gate.set()
    with pytest.raises(TaskError):
        await resumed


@pytest.mark.parametrize("ends", ["fails", "waits to retry"])
async def test_a_write_never_undoes_an_end(kernel: Kernel, world: World, ends: str) -> None:
    """A commit that ends or parks the run at the same transition waits for a write that is under way."""

    class Tomorrow:
        def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
            return 86_400.0 if ends == "waits to retry" else None

    job = Job()
    job.broken = True
    flow: Workflow[str] = Workflow("work", name="job").add_exit_state("rest")
    flow.register("work", job.work, config=TaskConfig(retry=Tomorrow()))
    await kernel.start(flow, {}, run_id="r")
    await job.begun.wait()
    hold = world.faults(kernel).at_call("commit").hang()
    job.report(1, 2)
    await world.clock.advance(INTERVAL)
    await hold.reached()
    job.gate.set()
    await world.settle()
    assert (await world.look("r")).status is RunStatus.RUNNING
    hold.release()
    await world.settle()
    assert (await world.look("r")).status is (RunStatus.FAILED if ends == "fails" else RunStatus.PARKED)


async def test_a_run_that_was_parked_in_between(kernel: Kernel, world: World) -> None:
    """A report of the object that continues a run is stored, even if one of the object before was not written yet."""
    gate = asyncio.Event()

    async def before(store: Any) -> Any:
        current_step().progress(1, 3)
        return wait_for("go", then="after")

    async def after(store: Any) -> str:
        current_step().progress(2, 3)
        await gate.wait()
        return "end"

    flow: Workflow[str] = Workflow("before", name="parks").add_exit_state("end")
    flow.register("before", before).register("after", after)
    await kernel.start(flow, {}, run_id="r")
    await world.settle()
    await kernel.signal("r", "go")
    await world.settle()
    await world.clock.advance(2 * INTERVAL)
    assert (await (await world.kernel()).get("r")).progress == Progress(2, 3, None)


async def test_what_cannot_be_stored_is_not_shown_elsewhere(kernel: Kernel, world: World, job: Job) -> None:
    """A report of an odd amount does not fail the step, nor does a store that fails."""
    job.report(object())
    await world.clock.advance(INTERVAL)
    assert (await (await world.kernel()).get("r")).progress is None
    job.gate.set()
    await world.settle()
    assert (await world.look("r")).status is RunStatus.SUCCEEDED
