"""Stopping runs: by their handle, by cancelling who awaits them, and by closing the kernel. Nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextvars import ContextVar, Token
from typing import Any

import pytest
from cano import (
    Kernel,
    Node,
    Run,
    RunCancelledError,
    RunHandle,
    RunInterruptedError,
    RunStatus,
    RunTimeoutError,
    Step,
    StepTimeoutError,
    StoreUnavailableError,
    TaskConfig,
    TaskError,
    TransitionError,
    Workflow,
    WorkflowError,
    current_step,
    hookimpl,
)
from cano.testing import VirtualClock
from cano_memory import MemoryStore

from tests.waiting import until

inside: ContextVar[str] = ContextVar("inside", default="nothing")


class Always:
    """A retry strategy that never gives up."""

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """See `RetryStrategy`."""
        return 0.0


class Watches:
    """An observer that notes all events, and holds a context variable during steps and runs."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, int]] = []
        self.runs: list[tuple[str, RunStatus]] = []
        self.errors: list[BaseException | None] = []
        self.tokens: list[Token[str]] = []

    @hookimpl
    def cano_run_started(self, run: Run) -> None:
        """Note it."""
        self.runs.append(("started", run.status))

    @hookimpl
    def cano_run_finished(self, run: Run) -> None:
        """Note it."""
        self.runs.append(("finished", run.status))

    @hookimpl
    def cano_step_started(self, step: Step) -> None:
        """Note it, and set the variable."""
        self.steps.append(("started", step.seq))
        self.tokens.append(inside.set(f"step {step.seq}"))

    @hookimpl
    def cano_step_finished(self, step: Step) -> None:
        """Note it, and reset the variable, which only works in the same context."""
        self.steps.append(("finished", step.seq))
        inside.reset(self.tokens.pop())

    @hookimpl
    def cano_step_failed(self, step: Step) -> None:
        """Note it, and reset the variable, which only works in the same context."""
        self.steps.append(("failed", step.seq))
        self.errors.append(step.error)
        inside.reset(self.tokens.pop())


class Waits:
    """A task that waits for ever; notes how it began and ended."""

    def __init__(self, clean_up: float = 0, clock: VirtualClock | None = None) -> None:
        self.began = asyncio.Event()
        self.events: list[str] = []
        self.clean_up = clean_up
        self.clock = clock

    async def __call__(self, store: Any) -> str:
        """Wait."""
        self.events.append("began")
        store["trace"] = True
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            if self.clock is not None:
                await self.clock.sleep(self.clean_up)
            self.events.append("ended")
        return "end"


@pytest.fixture(autouse=True)
async def nothing_left() -> AsyncIterator[None]:
    """After every test here, only the test's own asyncio task is left."""
    before = asyncio.all_tasks()
    yield
    await until(lambda: asyncio.all_tasks() - before <= {asyncio.current_task()})


def flow_of(work: Any, **config: Any) -> Workflow[str]:
    """A workflow of one task."""
    return Workflow("start").register("start", work, config=TaskConfig(**config)).add_exit_state("end")


def cancelling() -> int:
    """How often the test's own task has been asked to end."""
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


# by the handle


async def test_cancel_before_it_begins(kernel: Kernel) -> None:
    """A run cancelled before its first turn runs no task at all."""
    work = Waits()
    handle = await kernel.start(flow_of(work), run_id="r1")
    await handle.cancel()

    with pytest.raises(RunCancelledError, match="run r1 was cancelled"):
        await handle.result()
    assert work.events == []
    assert handle.status().status is RunStatus.CANCELLED


async def test_cancel_during_a_step(kernel: Kernel) -> None:
    """The task is cancelled, its clean-up runs, nothing that it wrote is kept, and the error says where it was."""
    work, store = Waits(), MemoryStore()
    handle = await kernel.start(flow_of(work), store, run_id="r1")
    await work.began.wait()
    assert handle.status().status is RunStatus.RUNNING
    await handle.cancel()

    with pytest.raises(RunCancelledError) as caught:
        await handle.result()
    error = caught.value
    assert isinstance(error, WorkflowError)
    assert (error.run_id, error.workflow, error.state, error.attempt) == ("r1", "workflow", "start", 1)
    assert work.events == ["began", "ended"]
    assert len(store) == 0
    status = handle.status()
    assert (status.status, status.state, status.error) == (RunStatus.CANCELLED, "start", error)
    assert kernel.active == {}


async def test_cancel_after_success(kernel: Kernel) -> None:
    """It changes nothing: the outcome stays what it was."""
    handle = await kernel.start(flow_of(lambda store: "end"))
    result = await handle.result()
    await handle.cancel()
    handle.cancel()

    assert handle.status().status is RunStatus.SUCCEEDED
    assert await handle.result() == result


async def test_cancel_after_failure(kernel: Kernel) -> None:
    """A failed run stays failed, with its own error."""

    def work(store: Any) -> str:
        raise OSError

    handle = await kernel.start(flow_of(work))
    with pytest.raises(TaskError) as first:
        await handle.result()
    await handle.cancel()

    assert handle.status().status is RunStatus.FAILED
    with pytest.raises(TaskError) as second:
        await handle.result()
    assert second.value is first.value


async def test_cancel_awaited_means_ended(kernel: Kernel, clock: VirtualClock) -> None:
    """What `cancel` returns is done when the run is, clean-up included."""
    work = Waits(0.5, clock)
    handle = await kernel.start(flow_of(work))
    await work.began.wait()
    ended = handle.cancel()
    assert handle.status().status is RunStatus.RUNNING
    await ended

    assert work.events == ["began", "ended"]
    assert clock.monotonic() == 0.5
    assert handle.status().status is RunStatus.CANCELLED


async def test_cancel_need_not_be_awaited(kernel: Kernel) -> None:
    """Asking is enough; whoever waits for the result sees it."""
    work = Waits()
    handle = await kernel.start(flow_of(work))
    await work.began.wait()
    handle.cancel()

    with pytest.raises(RunCancelledError):
        await handle.result()


async def test_cancel_by_several_at_once(kernel: Kernel) -> None:
    """All of them wait for the same end."""
    work = Waits()
    handle = await kernel.start(flow_of(work))
    await work.began.wait()

    async def cancel() -> RunStatus:
        await handle.cancel()
        return handle.status().status

    assert await asyncio.gather(*(cancel() for _ in range(3))) == [RunStatus.CANCELLED] * 3


async def test_cancelling_who_awaits_the_cancel(kernel: Kernel, clock: VirtualClock) -> None:
    """Who waits for the end may give up; the run ends all the same."""
    work = Waits(0.5, clock)
    handle = await kernel.start(flow_of(work))
    await work.began.wait()

    async def cancel() -> None:
        await handle.cancel()

    waiting = asyncio.create_task(cancel())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    with pytest.raises(RunCancelledError):
        await handle.result()
    assert work.events == ["began", "ended"]


async def test_cancel_between_attempts(kernel: Kernel, clock: VirtualClock) -> None:
    """A run that waits for its next attempt ends at once."""

    class Later:
        def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
            return 1000.0

    attempts: list[int] = []

    async def work(store: Any) -> str:
        attempts.append(current_step().attempt)
        raise OSError

    handle = await kernel.start(flow_of(work, retry=Later()))
    await until(lambda: bool(attempts))
    await handle.cancel()

    with pytest.raises(RunCancelledError):
        await handle.result()
    assert (attempts, clock.monotonic()) == ([1], 0)


async def test_a_task_that_swallows_the_cancellation(kernel: Kernel) -> None:
    """The step may finish and is committed; the run then ends, before the next one."""
    began, visited = asyncio.Event(), []

    async def stubborn(store: Any) -> str:
        visited.append(current_step().state)
        began.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        store["done"] = True
        return "next" if current_step().state == "start" else "end"

    store = MemoryStore()
    handle = await kernel.start(flow_of(stubborn).register("next", stubborn), store)
    await began.wait()
    await handle.cancel()

    with pytest.raises(RunCancelledError):
        await handle.result()
    assert visited == ["start"]
    assert store["done"] is True
    assert handle.status().state == "next"


async def test_the_last_task_swallows_the_cancellation(kernel: Kernel) -> None:
    """A run that was cancelled does not end in success."""
    began = asyncio.Event()

    async def stubborn(store: Any) -> str:
        began.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return "end"

    handle = await kernel.start(flow_of(stubborn))
    await began.wait()
    await handle.cancel()

    with pytest.raises(RunCancelledError):
        await handle.result()
    assert handle.status().status is RunStatus.CANCELLED


async def test_a_task_that_swallows_it_and_returns_nothing(kernel: Kernel) -> None:
    """That it returned no state is a consequence of the cancellation, which is what counts."""
    began = asyncio.Event()

    async def stubborn(store: Any) -> Any:
        began.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    handle = await kernel.start(flow_of(stubborn))
    await began.wait()
    await handle.cancel()
    with pytest.raises(RunCancelledError):
        await handle.result()

    with pytest.raises(RunTimeoutError):
        await kernel.run(flow_of(stubborn), timeout=5)
    with pytest.raises(StepTimeoutError):
        await kernel.run(flow_of(stubborn, timeout=5))


async def test_a_task_that_goes_on_waiting_is_cancelled_again(kernel: Kernel, clock: VirtualClock) -> None:
    """A task that swallows its cancellation and waits on is cancelled every second, until it ends."""
    began, times = asyncio.Event(), []

    async def stubborn(store: Any) -> str:
        began.set()
        for _ in range(3):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                times.append(clock.monotonic())
        return "end"

    handle = await kernel.start(flow_of(stubborn))
    await began.wait()
    await handle.cancel()

    with pytest.raises(RunCancelledError):
        await handle.result()
    assert times == [0, 1, 2]
    await clock.sleep(10)
    assert cancelling() == 0


@pytest.mark.parametrize("limits", [{}, {"timeout": 50}, {"total_timeout": 50}], ids=["plain", "timeout", "total"])
async def test_a_cancelled_run_is_never_retried(kernel: Kernel, limits: dict[str, float]) -> None:
    """A task that turns its cancellation into an error of its own gets no other attempt; the run was cancelled."""
    began, attempts = asyncio.Event(), []
    problem = ConnectionError("lost")

    async def work(store: Any) -> str:
        attempts.append(current_step().attempt)
        store["trace"] = True
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise problem from None
        return "end"

    store = MemoryStore()
    handle = await kernel.start(flow_of(work, retry=Always(), on_exhausted="end", **limits), store)
    await began.wait()
    await handle.cancel()

    with pytest.raises(RunCancelledError) as caught:
        await handle.result()
    assert attempts == [1]
    assert len(store) == 0
    assert problem in contexts(caught.value)


def contexts(error: BaseException) -> list[BaseException]:
    """All that led to an error."""
    found: list[BaseException] = []
    todo: list[BaseException | None] = [error.__cause__, error.__context__]
    while todo:
        one = todo.pop()
        if one is not None and one not in found:
            found.append(one)
            todo += [one.__cause__, one.__context__]
    return found


async def test_a_cancelled_node_asks_no_fallback(kernel: Kernel) -> None:
    """A cancellation is no failure of `exec`: neither the fallback nor `post` runs."""
    calls: list[str] = []
    began = asyncio.Event()

    class Hangs(Node[str, None, None]):
        async def prep(self, store: Any) -> None:
            calls.append("prep")

        async def exec(self, prepared: None) -> None:
            calls.append("exec")
            began.set()
            await asyncio.Event().wait()

        async def exec_fallback(self, prepared: None, error: Exception) -> None:
            calls.append("fallback")

        async def post(self, store: Any, prepared: None, result: None) -> str:
            calls.append("post")
            return "end"

    handle = await kernel.start(flow_of(Hangs(), retry=Always()))
    await began.wait()
    await handle.cancel()

    with pytest.raises(RunCancelledError):
        await handle.result()
    assert calls == ["prep", "exec"]


async def test_a_task_cancels_its_own_run(kernel: Kernel) -> None:
    """A task that holds the handle may do it: the run ends when the task next waits."""
    handles: list[RunHandle] = []
    ready = asyncio.Event()

    async def work(store: Any) -> str:
        await ready.wait()
        await handles[0].cancel()
        return "end"

    handles.append(await kernel.start(flow_of(work)))
    ready.set()

    with pytest.raises(RunCancelledError):
        await handles[0].result()


async def test_a_task_cancels_its_own_run_and_never_waits(kernel: Kernel) -> None:
    """Where the task does not wait any more, the run ends after it; nobody else is hit by the cancellation."""
    handles: list[RunHandle] = []
    ready = asyncio.Event()

    async def work(store: Any) -> str:
        await ready.wait()
        handles[0].cancel()
        return "end"

    handles.append(await kernel.start(flow_of(work)))
    ready.set()

    with pytest.raises(RunCancelledError):
        await handles[0].result()
    assert handles[0].status().status is RunStatus.CANCELLED


async def test_one_of_many(kernel: Kernel) -> None:
    """Cancelling one run leaves the others alone."""
    work, go = Waits(), asyncio.Event()

    async def other(store: Any) -> str:
        await go.wait()
        return "end"

    cancelled, kept = await kernel.start(flow_of(work)), await kernel.start(flow_of(other))
    await work.began.wait()
    await cancelled.cancel()
    go.set()

    assert (await kept.result()).state == "end"


async def test_handles_tell_about_their_run(kernel: Kernel) -> None:
    """Id and text of a handle are those of its run."""
    handle = await kernel.start(flow_of(lambda store: "end"), run_id="r1")
    await handle.result()

    assert handle.run_id == "r1"
    assert repr(handle) == "<RunHandle of <Run r1 of workflow: succeeded in end>>"


# by cancelling who awaits


async def test_cancelling_who_awaits_run(kernel: Kernel) -> None:
    """`kernel.run` runs in its caller's task: cancelling that one ends the run, and stays a cancellation."""
    work, store = Waits(), MemoryStore()
    running = asyncio.create_task(kernel.run(flow_of(work, retry=Always(), on_exhausted="end"), store))
    await work.began.wait()
    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
    assert work.events == ["began", "ended"]
    assert len(store) == 0
    assert kernel.active == {}


async def test_cancelling_who_awaits_run_within_limits(kernel: Kernel) -> None:
    """The same where limits are in force: it is not taken for a timeout."""
    work = Waits()
    running = asyncio.create_task(kernel.run(flow_of(work, timeout=50, total_timeout=60), timeout=70))
    await work.began.wait()
    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
    assert work.events == ["began", "ended"]


async def test_cancelling_who_awaits_result(kernel: Kernel) -> None:
    """A started run belongs to the kernel: who waits for it may be cancelled without harm to it."""
    go, began = asyncio.Event(), asyncio.Event()

    async def work(store: Any) -> str:
        began.set()
        await go.wait()
        return "end"

    handle = await kernel.start(flow_of(work))
    waiting = asyncio.create_task(handle.result())
    await began.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert handle.status().status is RunStatus.RUNNING
    go.set()
    assert (await handle.result()).state == "end"


async def test_dropping_the_handle(kernel: Kernel) -> None:
    """Nobody need keep the handle for the run to go on."""
    done = asyncio.Event()

    async def work(store: Any) -> str:
        await asyncio.sleep(0)
        done.set()
        return "end"

    await kernel.start(flow_of(work))
    await done.wait()
    await until(lambda: not kernel.active)


async def test_a_group_of_runs(kernel: Kernel) -> None:
    """In a task group, one failing run ends the others, as with any coroutine."""
    work = Waits()

    async def fails(store: Any) -> str:
        await work.began.wait()
        raise OSError

    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(kernel.run(flow_of(work)))
            group.create_task(kernel.run(flow_of(fails)))

    with pytest.raises(ExceptionGroup) as caught:
        await both()
    assert [type(error) for error in caught.value.exceptions] == [TaskError]
    assert work.events == ["began", "ended"]


async def test_a_task_group_inside_a_task(kernel: Kernel) -> None:
    """A group that fails inside a task is a failure of the task, retried like others, not a cancellation."""
    attempts: list[int] = []

    async def work(store: Any) -> str:
        attempts.append(current_step().attempt)
        async with asyncio.TaskGroup() as group:
            group.create_task(fails())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        return "end"

    async def fails() -> None:
        if len(attempts) < 3:
            raise OSError

    for limits in ({}, {"timeout": 50}):
        attempts.clear()
        assert (await kernel.run(flow_of(work, retry=Always(), **limits))).state == "end"
        assert attempts == [1, 2, 3]


async def test_a_run_inside_a_task_ends_with_it(clock: VirtualClock) -> None:
    """Cancelling the outer run cancels the inner one that its task awaits."""
    work, watches = Waits(), Watches()
    async with Kernel(discover=False, plugins=[watches], clock=clock, grace=0) as kernel:

        async def outer(store: Any) -> str:
            await kernel.run(flow_of(work))
            return "end"

        handle = await kernel.start(flow_of(outer))
        await work.began.wait()
        await handle.cancel()

        with pytest.raises(RunCancelledError):
            await handle.result()
    assert work.events == ["began", "ended"]
    assert watches.runs == [("started", RunStatus.RUNNING)] * 2 + [("finished", RunStatus.CANCELLED)] * 2


async def test_a_call_to_an_executor_is_cancelled(clock: VirtualClock) -> None:
    """What runs elsewhere is told to stop."""
    events: list[str] = []
    began = asyncio.Event()

    class Remote:
        async def submit(self, call: Any) -> Any:
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                events.append("cancelled")

    class Work(Node[str, None, None]):
        async def prep(self, store: Any) -> None:
            pass

        async def exec(self, prepared: None) -> None:
            pass

        async def post(self, store: Any, prepared: None, result: None) -> str:
            return "end"

    async with Kernel(discover=False, executor=Remote(), clock=clock, grace=0) as kernel:
        handle = await kernel.start(flow_of(Work()))
        await began.wait()
        await handle.cancel()
    assert events == ["cancelled"]


# by closing the kernel


async def test_close_lets_runs_finish(clock: VirtualClock) -> None:
    """Within the grace nothing is interrupted; closing takes no longer than the last run does."""
    kernel = Kernel(discover=False, clock=clock, grace=10)

    async def work(store: Any) -> str:
        await clock.sleep(3)
        return "end"

    handle = await kernel.start(flow_of(work))
    await asyncio.sleep(0)
    await kernel.close()

    assert clock.monotonic() == 3
    assert (await handle.result()).state == "end"


async def test_close_interrupts_after_the_grace(clock: VirtualClock) -> None:
    """What has not finished by then is cancelled, and is interrupted: neither failed nor cancelled."""
    kernel = Kernel(discover=False, clock=clock, grace=10)
    work, store = Waits(), MemoryStore()
    handle = await kernel.start(flow_of(work), store, run_id="r1")
    await work.began.wait()
    await kernel.close()

    assert clock.monotonic() == 10
    with pytest.raises(RunInterruptedError, match="run r1 was interrupted: the kernel closed") as caught:
        await handle.result()
    assert (caught.value.run_id, caught.value.state) == ("r1", "start")
    assert handle.status().status is RunStatus.INTERRUPTED
    assert work.events == ["began", "ended"]
    assert len(store) == 0


@pytest.mark.parametrize("seconds", [0, 4])
async def test_close_with_a_grace_of_its_own(clock: VirtualClock, seconds: float) -> None:
    """The argument of `close` goes before the kernel's option."""
    kernel = Kernel(discover=False, clock=clock, grace=10)
    work = Waits()
    await kernel.start(flow_of(work))
    await work.began.wait()
    await kernel.close(grace=seconds)

    assert clock.monotonic() == seconds
    assert work.events == ["began", "ended"]


async def test_close_awaits_clean_up(clock: VirtualClock) -> None:
    """When `close` returns, interrupted tasks have ended."""
    kernel = Kernel(discover=False, clock=clock)
    work = Waits(0.5, clock)
    await kernel.start(flow_of(work))
    await work.began.wait()
    await kernel.close(grace=0)

    assert work.events == ["began", "ended"]
    assert clock.monotonic() == 0.5


async def test_close_insists(clock: VirtualClock) -> None:
    """A task that swallows the interruption does not keep the kernel from closing."""
    kernel = Kernel(discover=False, clock=clock)
    began = asyncio.Event()

    async def stubborn(store: Any) -> str:
        began.set()
        for _ in range(3):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        return "start"

    handle = await kernel.start(flow_of(stubborn))
    await began.wait()
    await kernel.close(grace=0)

    assert handle.status().status is RunStatus.INTERRUPTED
    assert clock.monotonic() == 2


async def test_close_before_a_run_begins(clock: VirtualClock) -> None:
    """A run that was started and has had no turn yet is interrupted like others."""
    kernel = Kernel(discover=False, clock=clock)
    handle = await kernel.start(flow_of(Waits()))
    await kernel.close(grace=0)

    with pytest.raises(RunInterruptedError):
        await handle.result()


async def test_close_without_runs_takes_no_time(clock: VirtualClock) -> None:
    """The grace is not waited for where nothing runs."""
    kernel = Kernel(discover=False, clock=clock, grace=10)
    await kernel.run(flow_of(lambda store: "end"))
    await kernel.close()

    assert clock.monotonic() == 0


async def test_close_interrupts_run_without_cancelling_its_caller(clock: VirtualClock) -> None:
    """Who awaits `kernel.run` gets the error, and is not cancelled: it can go on with something else."""
    kernel = Kernel(discover=False, clock=clock)
    work = Waits()
    afterwards: list[Any] = []

    async def caller() -> None:
        with pytest.raises(RunInterruptedError):
            await kernel.run(flow_of(work))
        afterwards.append(cancelling())
        await clock.sleep(10)
        afterwards.append((cancelling(), "went on"))

    calling = asyncio.create_task(caller())
    await work.began.wait()
    await kernel.close(grace=0)
    await calling

    assert afterwards == [0, (0, "went on")]


async def test_close_and_cancel_at_once(clock: VirtualClock) -> None:
    """A caller that is cancelled while its run is being interrupted is cancelled; nothing hangs or is left over."""
    for turns in range(4):
        kernel = Kernel(discover=False, clock=clock)
        work = Waits()
        calling = asyncio.create_task(kernel.run(flow_of(work)))
        await work.began.wait()
        closing = asyncio.create_task(kernel.close(grace=0))
        await until(lambda work=work: "ended" in work.events)  # type: ignore[misc]
        for _ in range(turns):
            await asyncio.sleep(0)
        calling.cancel()
        with pytest.raises((asyncio.CancelledError, RunInterruptedError)):
            await calling
        await closing
        assert kernel.active == {}


async def test_stop_and_cancel_in_consecutive_turns(kernel: Kernel) -> None:
    """A cancellation from outside that comes right after the run's own is not lost, and leaves nothing behind."""
    work = Waits()
    calling = asyncio.create_task(kernel.run(flow_of(work), run_id="r1"))
    await work.began.wait()
    kernel.active["r1"].stop(RunStatus.CANCELLED)
    await asyncio.sleep(0)
    calling.cancel()

    with pytest.raises(asyncio.CancelledError):
        await calling
    assert kernel.active == {}


async def test_many_runs_are_interrupted_together(clock: VirtualClock) -> None:
    """The grace is one for all of them."""
    kernel = Kernel(discover=False, clock=clock, grace=10)
    works = [Waits(0.5, clock) for _ in range(20)]
    handles = [await kernel.start(flow_of(work)) for work in works]
    await asyncio.gather(*(work.began.wait() for work in works))
    await kernel.close()

    assert clock.monotonic() == 10.5
    assert {handle.status().status for handle in handles} == {RunStatus.INTERRUPTED}


async def test_leaving_the_context_closes(clock: VirtualClock) -> None:
    """`async with` closes with the kernel's grace, also when its body raises."""
    work = Waits()
    handles: list[RunHandle] = []

    async def body() -> None:
        async with Kernel(discover=False, clock=clock, grace=5) as kernel:
            handles.append(await kernel.start(flow_of(work)))
            await work.began.wait()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await body()
    assert handles[0].status().status is RunStatus.INTERRUPTED
    assert clock.monotonic() == 5


async def test_a_run_may_close_its_kernel(clock: VirtualClock) -> None:
    """A task that closes the kernel it runs in is not waited for, and finishes."""
    kernel = Kernel(discover=False, clock=clock)
    other = Waits()

    async def work(store: Any) -> str:
        await kernel.close(grace=0)
        return "end"

    handle = await kernel.start(flow_of(other))
    await other.began.wait()

    assert (await kernel.run(flow_of(work))).state == "end"
    assert handle.status().status is RunStatus.INTERRUPTED


async def test_a_started_run_may_close_its_kernel(clock: VirtualClock) -> None:
    """The same for a run in the background: `close` does not wait for the task that it is called in."""
    kernel = Kernel(discover=False, clock=clock)

    async def work(store: Any) -> str:
        await kernel.close(grace=0)
        return "end"

    handle = await kernel.start(flow_of(work))

    assert (await handle.result()).state == "end"
    assert handle.status().status is RunStatus.SUCCEEDED


async def test_no_run_begins_while_the_kernel_closes() -> None:
    """A kernel that is closing takes no more work, so that closing comes to an end."""
    clock = VirtualClock(auto=False)
    kernel = Kernel(discover=False, clock=clock)
    first, late = Waits(), Waits()
    await kernel.start(flow_of(first))
    await first.began.wait()
    closing = asyncio.create_task(kernel.close(grace=1))
    await until(lambda: kernel.closed)
    begun: RunHandle | None = None
    with contextlib.suppress(StoreUnavailableError):
        begun = await kernel.start(flow_of(late))
    await clock.advance(1)
    if begun is not None:
        await begun.cancel()
    await closing

    assert begun is None


async def test_closing_again_after_a_cancelled_close(clock: VirtualClock) -> None:
    """A `close` that was cancelled has not closed: the next one does."""
    kernel = Kernel(discover=False, clock=clock)
    work = Waits()
    handle = await kernel.start(flow_of(work))
    await work.began.wait()
    closing = asyncio.create_task(kernel.close(grace=100))
    await asyncio.sleep(0)
    closing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await closing
    await kernel.close(grace=0)
    status = handle.status().status
    await handle.cancel()

    assert status is RunStatus.INTERRUPTED


async def test_closing_twice_at_once(clock: VirtualClock) -> None:
    """Both calls return when the kernel is closed, not earlier."""
    kernel = Kernel(discover=False, clock=clock)

    async def work(store: Any) -> str:
        await clock.sleep(3)
        return "end"

    handle = await kernel.start(flow_of(work))
    await asyncio.sleep(0)
    first = asyncio.create_task(kernel.close(grace=10))
    await asyncio.sleep(0)
    await kernel.close(grace=10)
    status = handle.status().status
    await first

    assert status is RunStatus.SUCCEEDED


# what observers see


async def by_handle(kernel: Kernel, flow: Workflow[str], began: asyncio.Event) -> None:
    """Cancel a run by its handle."""
    handle = await kernel.start(flow)
    await began.wait()
    await handle.cancel()


async def by_task(kernel: Kernel, flow: Workflow[str], began: asyncio.Event) -> None:
    """Cancel who awaits a run."""
    running = asyncio.create_task(kernel.run(flow))
    await began.wait()
    running.cancel()
    await asyncio.wait([running])


async def by_close(kernel: Kernel, flow: Workflow[str], began: asyncio.Event) -> None:
    """Close the kernel."""
    await kernel.start(flow)
    await began.wait()
    await kernel.close(grace=0)


async def by_timeout(kernel: Kernel, flow: Workflow[str], began: asyncio.Event) -> None:
    """Run out of time."""
    with pytest.raises(RunTimeoutError):
        await kernel.run(flow, timeout=5)


@pytest.mark.parametrize(
    ("stop", "error", "status"),
    [
        (by_handle, RunCancelledError, RunStatus.CANCELLED),
        (by_task, asyncio.CancelledError, RunStatus.CANCELLED),
        (by_close, RunInterruptedError, RunStatus.INTERRUPTED),
        (by_timeout, RunTimeoutError, RunStatus.FAILED),
    ],
)
@pytest.mark.parametrize("limits", [{}, {"timeout": 50}], ids=["fast", "limited"])
async def test_every_started_step_ends_once(
    clock: VirtualClock, stop: Any, error: type[BaseException], status: RunStatus, limits: dict[str, Any]
) -> None:
    """Exactly one of finished and failed follows each started, in the same context, however the run is stopped."""
    watches, work = Watches(), Waits()

    async def first(store: Any) -> str:
        assert inside.get() == "step 1"
        return "second"

    flow = Workflow("first").register("first", first).register("second", work, config=TaskConfig(**limits))
    async with Kernel(discover=False, plugins=[watches], clock=clock, grace=0) as kernel:
        await stop(kernel, flow.add_exit_state("end"), work.began)
        assert kernel.observer_errors == {}

    assert watches.steps == [("started", 1), ("finished", 1), ("started", 2), ("failed", 2)]
    assert [type(seen) for seen in watches.errors] == [error]
    assert watches.runs == [("started", RunStatus.RUNNING), ("finished", status)]
    assert watches.tokens == []
    assert inside.get() == "nothing"


async def test_a_swallowed_cancellation_ends_once_too(clock: VirtualClock) -> None:
    """The step that swallowed it has finished; the next one does not start."""
    watches, began = Watches(), asyncio.Event()

    async def stubborn(store: Any) -> str:
        began.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return "start"

    async with Kernel(discover=False, plugins=[watches], clock=clock, grace=0) as kernel:
        await by_handle(kernel, flow_of(stubborn), began)

    assert watches.steps == [("started", 1), ("finished", 1)]
    assert watches.runs == [("started", RunStatus.RUNNING), ("finished", RunStatus.CANCELLED)]


@pytest.mark.parametrize("problem", [OSError, KeyboardInterrupt, TransitionError], ids=lambda kind: kind.__name__)
async def test_every_failed_step_ends_once(clock: VirtualClock, problem: type[BaseException]) -> None:
    """The same for errors of all kinds."""
    watches = Watches()

    async def work(store: Any) -> Any:
        if problem is TransitionError:
            return "nowhere"
        raise problem

    async with Kernel(discover=False, plugins=[watches], clock=clock, grace=0) as kernel:
        with pytest.raises(TaskError if problem is OSError else problem):
            await kernel.run(flow_of(work))

    assert watches.steps == [("started", 1), ("failed", 1)]
    assert watches.runs[-1][0] == "finished"
    assert inside.get() == "nothing"


async def test_a_run_cancelled_before_its_first_step_starts_none(clock: VirtualClock) -> None:
    """No step is seen that did not begin; the run is seen to end."""
    watches = Watches()
    async with Kernel(discover=False, plugins=[watches], clock=clock, grace=0) as kernel:
        handle = await kernel.start(flow_of(Waits()))
        await handle.cancel()

    assert watches.steps == []
    assert watches.runs == [("started", RunStatus.RUNNING), ("finished", RunStatus.CANCELLED)]
