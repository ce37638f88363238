"""A run that fails in the background is logged, unless a caller asks for its error or a plugin reports ends of runs."""

from __future__ import annotations

import asyncio
import gc
import logging
from typing import Any

import pytest
from cano import Kernel, Run, RunHandle, SubWorkflow, TaskConfig, TaskError, Workflow, hookimpl, wait_for

HERE = __file__


async def failing(store: Any) -> str:
    """Raise an error with a secret."""
    raise ValueError("password=hunter2\nno")


flow: Workflow[str] = Workflow("go", name="shop").register("go", failing).add_exit_state("end")
waiting: Workflow[str] = Workflow("wait", name="waits").register("go", failing).add_exit_state("end")


@waiting.on("wait")
async def wait(store: Any) -> Any:
    """Wait for a signal."""
    return wait_for("answer", then="go")


EXPECTED = (
    f"run r failed: TaskError: task 'failing' failed: ValueError: password=[redacted]\\nno; "
    f"at {HERE}:{failing.__code__.co_firstlineno + 2} in failing; no caller asks for its result"
)


async def ended(kernel: Kernel) -> None:
    """Wait until the kernel executes no run."""
    while kernel.active:
        await asyncio.gather(*(run.ended() for run in list(kernel.active.values())))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The warnings so far."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.fixture
async def kernel() -> Any:
    """A kernel without plugins that observe runs."""
    async with Kernel(store="memory://", discover=False, plugins=["memory"]) as kernel:
        yield kernel


async def failed(kernel: Kernel) -> RunHandle:
    """The handle of a run that has failed, unseen."""
    handle = await kernel.start(flow, run_id="r")
    await kernel.active["r"].ended()
    return handle


async def test_a_dropped_handle(kernel: Kernel, caplog: pytest.LogCaptureFixture) -> None:
    """A run without a handle or a waiter is logged when it fails: with its error, file and line, in one line."""
    await kernel.start(flow, run_id="r")
    await kernel.close()

    assert warnings(caplog) == [EXPECTED]


async def test_a_handle_that_is_dropped_later(kernel: Kernel, caplog: pytest.LogCaptureFixture) -> None:
    """As long as a handle exists, a caller may ask; the last one that is dropped without having asked is the reason."""
    handle = await failed(kernel)
    other = await kernel.start(flow, run_id="other")
    assert [text for text in warnings(caplog) if text.startswith("run r ")] == []
    del handle
    assert warnings(caplog) == [EXPECTED]
    with pytest.raises(TaskError):
        await other.result()
    del other
    gc.collect()
    assert warnings(caplog) == [EXPECTED]


@pytest.mark.parametrize("how", ["result", "late result", "status"])
async def test_a_caller_that_asks(kernel: Kernel, caplog: pytest.LogCaptureFixture, how: str) -> None:
    """A caller that waits for the run, or gets its error afterwards, reports it in its own way."""
    if how == "status":
        assert isinstance((await failed(kernel)).status().error, TaskError)
    else:
        start = kernel.start(flow, run_id="r") if how == "result" else failed(kernel)
        with pytest.raises(TaskError):
            await (await start).result()
    gc.collect()

    assert warnings(caplog) == []


async def test_a_caller_that_waits_for_the_run(kernel: Kernel, caplog: pytest.LogCaptureFixture) -> None:
    """`Kernel.run` raises the error."""
    with pytest.raises(TaskError):
        await kernel.run(flow, run_id="r")

    assert warnings(caplog) == []


async def test_a_waiter_that_gives_up(kernel: Kernel, caplog: pytest.LogCaptureFixture) -> None:
    """A caller that was cancelled does not ask any more."""
    begun, go = asyncio.Event(), asyncio.Event()

    async def late(store: Any) -> str:
        begun.set()
        await go.wait()
        return await failing(store)

    slow: Workflow[str] = Workflow("go", name="slow").register("go", late).add_exit_state("end")
    waiter = asyncio.ensure_future((await kernel.start(slow, run_id="r")).result())
    await begun.wait()
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    del waiter
    go.set()
    await kernel.close()

    assert [text[:14] for text in warnings(caplog)] == ["run r failed: "]


async def test_a_waiter_that_gives_up_while_the_run_is_parked(kernel: Kernel, caplog: pytest.LogCaptureFixture) -> None:
    """It does not ask for the error of the object that continues the run."""
    begun = asyncio.Event()
    slow: Workflow[str] = Workflow("wait", name="slow").register("go", failing).add_exit_state("end")

    @slow.on("wait")
    async def wait(store: Any) -> Any:
        begun.set()
        return wait_for("answer", then="go")

    waiter = asyncio.ensure_future(kernel.run(slow, run_id="r"))
    await begun.wait()
    await ended(kernel)
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    await kernel.signal("r", "answer")
    await ended(kernel)

    assert warnings(caplog) == [EXPECTED]


@pytest.mark.parametrize("asks", [True, False])
async def test_a_run_that_was_parked(kernel: Kernel, caplog: pytest.LogCaptureFixture, asks: bool) -> None:
    """A handle is one to the object that continues the run, too."""
    handle = await kernel.start(waiting, run_id="r")
    await ended(kernel)
    if not asks:
        del handle
    await kernel.signal("r", "answer")
    await ended(kernel)

    assert warnings(caplog) == ([] if asks else [EXPECTED])
    if asks:
        with pytest.raises(TaskError):
            await handle.result()
        del handle
        gc.collect()
        assert warnings(caplog) == []


@pytest.mark.parametrize("how", ["run", "attach"])
async def test_a_child_that_was_parked(caplog: pytest.LogCaptureFixture, how: str) -> None:
    """Its parent, which is parked with it, gets the error, and so do those who ask for the parent's result."""
    parent: Workflow[str] = Workflow("call", name="parent", default_config=TaskConfig.minimal()).add_exit_state("end")
    parent.register("call", SubWorkflow(waiting, then="end"))
    async with Kernel(store="memory://?strict=1", discover=False, plugins=["memory", "msgspec"]) as kernel:
        await kernel.start(parent, run_id="p")
        await ended(kernel)
        (child,) = (await kernel.get("p")).children
        attached = await kernel.attach("p")
        caller = asyncio.ensure_future(kernel.run(parent, run_id="p") if how == "run" else attached.result())
        await kernel.signal(child, "answer")
        with pytest.raises(TaskError):
            await caller

    assert warnings(caplog) == []


async def test_a_plugin_that_observes_ends_of_runs(caplog: pytest.LogCaptureFixture) -> None:
    """It reports the run in place of the kernel."""
    seen: list[BaseException | None] = []

    class Observer:
        @hookimpl
        def cano_run_finished(self, run: Run) -> None:
            seen.append(run.error)

    async with Kernel(store="memory://", discover=False, plugins=["memory", Observer()]) as kernel:
        await kernel.start(flow, run_id="r")

    assert len(seen) == 1
    assert warnings(caplog) == []
