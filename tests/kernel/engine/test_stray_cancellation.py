"""A CancelledError that nothing asked for is the task's own failure: the engine decides by who asked, not by class."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from cano import (
    ConcurrentWorkflow,
    Failed,
    JoinConfig,
    JoinError,
    JoinStrategy,
    Kernel,
    Node,
    NodeError,
    RetryExhaustedError,
    RunStatus,
    TaskConfig,
    TaskError,
    Workflow,
    hookimpl,
)
from cano.testing import VirtualClock
from cano_durability.keeper import Keeper
from cano_memory import MemoryBackend
from cano_retry import Fixed

LIMITS = [{}, {"timeout": 5}, {"total_timeout": 5}]


async def await_cancelled(*args: Any) -> Any:
    """Await a task that something else cancels, as a client library does with a request of its own."""
    inner = asyncio.ensure_future(asyncio.Event().wait())
    asyncio.get_running_loop().call_soon(inner.cancel)
    await inner


def cancelled_in_thread(store: Any) -> str:
    """Raise it in a worker thread."""
    raise asyncio.CancelledError


def flow_of(work: Any, **config: Any) -> Workflow[str]:
    """A workflow of one task."""
    return Workflow("start", name="one").register("start", work, config=TaskConfig(**config)).add_exit_state("end")


@pytest.fixture
async def kernel() -> AsyncIterator[Kernel]:
    """A kernel without plugins, in virtual time."""
    async with Kernel(discover=False, clock=VirtualClock()) as kernel:
        yield kernel


@pytest.mark.parametrize("limits", LIMITS, ids=["none", "timeout", "total"])
@pytest.mark.parametrize("work", [await_cancelled, cancelled_in_thread])
async def test_it_fails_the_run(kernel: Kernel, work: Any, limits: dict[str, float]) -> None:
    """With it as the cause, and with a reason in words."""
    handle = await kernel.start(flow_of(work, **limits), {})
    with pytest.raises(TaskError, match="it awaited something that was cancelled; its run was not") as caught:
        await handle.result()
    assert type(caught.value) is TaskError
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    assert handle.status().status is RunStatus.FAILED


@pytest.mark.parametrize("limits", LIMITS, ids=["none", "timeout", "total"])
async def test_it_is_retried_like_an_exception(kernel: Kernel, limits: dict[str, float]) -> None:
    """Its retries end like those of any other failure."""
    attempts: list[None] = []

    async def work(store: Any) -> str:
        attempts.append(None)
        await await_cancelled()
        return "end"

    with pytest.raises(RetryExhaustedError) as caught:
        await kernel.run(flow_of(work, retry=Fixed(2, 0.1), **limits), {})
    assert len(attempts) == caught.value.attempts == 3
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)


async def test_in_a_node(kernel: Kernel) -> None:
    """It has the phase; the fallback gets an exception."""

    class Work(Node[str, None, None]):
        fails_in = "prep"

        async def prep(self, store: Any) -> None:
            if self.fails_in == "prep":
                await await_cancelled()

        async def exec(self, prepared: None) -> None:
            await await_cancelled()

        async def exec_fallback(self, prepared: None, error: Exception) -> None:
            assert isinstance(error.__cause__, asyncio.CancelledError)

        async def post(self, store: Any, prepared: None, result: None) -> str:
            return "end"

    work = Work()
    with pytest.raises(NodeError) as caught:
        await kernel.run(flow_of(work), {})
    assert caught.value.phase == "prep"
    work.fails_in = "exec"
    assert (await kernel.run(flow_of(work), {})).state == "end"


@pytest.mark.parametrize("limits", LIMITS, ids=["none", "timeout", "total"])
async def test_in_a_branch(kernel: Kernel, limits: dict[str, Any]) -> None:
    """The branch has failed; it was not cancelled."""
    flow = Workflow("start", default_config=TaskConfig(**limits)).add_exit_state("end")
    flow.register_split("start", [await_cancelled], JoinConfig(JoinStrategy.all(), "end"))
    with pytest.raises(JoinError) as caught:
        await kernel.run(flow, {})
    (branch,) = caught.value.outcome.branches
    assert isinstance(branch.error, TaskError)
    assert isinstance(branch.error.__cause__, asyncio.CancelledError)


async def test_in_a_function_that_makes_branches(kernel: Kernel) -> None:
    """Like the failure of a task."""
    flow = Workflow("start").add_exit_state("end")
    flow.register_split("start", await_cancelled, JoinConfig(JoinStrategy.all(), "end"))
    with pytest.raises(TaskError):
        await kernel.run(flow, {})


async def test_in_a_batch(kernel: Kernel) -> None:
    """The item has failed; the others go on."""

    async def work(store: Any) -> str:
        if store["leaks"]:
            await await_cancelled()
        return "end"

    results, status = await ConcurrentWorkflow(flow_of(work), kernel=kernel).execute_concurrent(
        [{"leaks": True}, {"leaks": False}]
    )
    assert isinstance(results[0], Failed)
    assert isinstance(results[0].error, TaskError)
    assert (status.failed, status.completed, status.cancelled) == (1, 1, 0)


async def test_a_stored_run_fails_once() -> None:
    """It is stored as failed, with the reason, and recovering does not run the step again."""
    calls: list[None] = []

    async def work(store: Any) -> str:
        calls.append(None)
        await await_cancelled()
        return "end"

    flow = flow_of(work)
    async with Kernel(store="memory://?strict=1", clock=VirtualClock()) as kernel:
        with pytest.raises(TaskError):
            await kernel.run(flow, {}, run_id="r1")
        (record,) = await kernel.runs()
        assert record.status is RunStatus.FAILED
        assert "its run was not" in str(record.error)
        assert await kernel.recover(flow) == []
    assert len(calls) == 1


async def test_an_observer_that_raises_it() -> None:
    """It is counted, like any error of an observer."""

    class Leaks:
        @hookimpl
        def cano_run_started(self, run: Any) -> None:
            raise asyncio.CancelledError

        @hookimpl
        def cano_step_started(self, step: Any) -> None:
            raise asyncio.CancelledError

        @hookimpl(wrapper=True)
        def cano_step_finished(self, step: Any) -> Any:
            raise asyncio.CancelledError
            yield

        @hookimpl
        def cano_transition_committed(self, step: Any) -> None:
            raise asyncio.CancelledError

        @hookimpl
        def cano_run_finished(self, run: Any) -> None:
            raise asyncio.CancelledError

    async def work(store: Any) -> str:
        return "end"

    async with Kernel(discover=False, plugins=[Leaks()], clock=VirtualClock()) as kernel:
        assert (await kernel.run(flow_of(work), {})).state == "end"
        assert sum(kernel.observer_errors.values()) == 5


async def test_a_commit_that_raises_it() -> None:
    """The store has failed: the run is interrupted, and its caller was not cancelled."""

    class Leaks(MemoryBackend):
        async def commit(self, commit: Any, audit: Any = None) -> None:
            raise asyncio.CancelledError

    async def work(store: Any) -> str:
        return "end"

    async with Kernel(store=Leaks(strict=True), clock=VirtualClock()) as kernel:
        assert isinstance(kernel.keeper, Keeper)
        handle = await kernel.start(flow_of(work), {}, run_id="r1")
        await kernel.active["r1"].ended()
        assert handle.status().status is RunStatus.INTERRUPTED
