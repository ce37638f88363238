"""Plain functions run in threads, and threads cannot be stopped: what that means for limits, errors and stores."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import threading
import traceback
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from cano import (
    Kernel,
    RetryExhaustedError,
    RunCancelledError,
    RunTimeoutError,
    StepTimeoutError,
    TaskConfig,
    TaskError,
    Workflow,
    current_step,
)
from cano.testing import VirtualClock
from cano_memory import MemoryStore

from tests.clocks import Passing

PATIENCE = 60.0
"""Seconds after which a test that waits for another thread gives up."""

user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")


class Blocking:
    """A plain function that blocks until it is let go, and writes before and after. Attempts after the first do not."""

    def __init__(self, blocks: int = 1) -> None:
        self.blocks = blocks
        self.calls = 0
        self.began = threading.Event()
        self.go = threading.Event()
        self.ended = threading.Event()

    def __call__(self, store: Any) -> str:
        """Do it."""
        self.calls += 1
        number = self.calls
        store["early"] = number
        store.append("calls", number)
        if number <= self.blocks:
            self.began.set()
            self.go.wait(PATIENCE)
            store["late"] = number
            store.append("calls", "late")
            self.ended.set()
        return "end"


class Retries:
    """A retry strategy with so many retries, a second apart."""

    def __init__(self, retries: int) -> None:
        self.retries = retries

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """See `RetryStrategy`."""
        return 1.0 if attempt <= self.retries else None


@pytest.fixture
def passing() -> Passing:
    """Time that passes while threads work."""
    return Passing()


@pytest.fixture
async def threaded(passing: Passing) -> AsyncIterator[Kernel]:
    """A kernel whose time limits are reached while threads work."""
    async with Kernel(discover=False, clock=passing, grace=0) as kernel:
        yield kernel


def flow_of(work: Any, **config: Any) -> Workflow[str]:
    """A workflow of one task."""
    return Workflow("start").register("start", work, config=TaskConfig(**config)).add_exit_state("end")


async def happened(event: threading.Event) -> None:
    """Wait for a thread, without blocking the event loop."""
    assert await asyncio.to_thread(event.wait, PATIENCE)


# the thread


async def test_context_is_copied(kernel: Kernel) -> None:
    """A plain function sees its caller's context variables; what it sets stays its own."""

    def work(store: Any) -> str:
        store["seen"] = user.get()
        user.set("somebody else")
        return "end"

    user.set("me")

    assert (await kernel.run(flow_of(work))).data == {"seen": "me"}
    assert user.get() == "me"


async def test_the_step_is_known(kernel: Kernel) -> None:
    """`current_step()` works in the thread."""

    def work(store: Any) -> str:
        step = current_step()
        store["seen"] = (step.run_id, step.state, step.seq, step.attempt)
        return "end"

    assert (await kernel.run(flow_of(work), run_id="r1")).data == {"seen": ("r1", "start", 1, 1)}


async def test_no_thread_is_started_before_it_is_needed(kernel: Kernel) -> None:
    """A kernel whose tasks are all async has no worker threads."""

    async def work(store: Any) -> str:
        return "end"

    before = set(threading.enumerate())
    await kernel.run(flow_of(work, timeout=5))

    assert set(threading.enumerate()) - before == set()


async def test_threads_run_side_by_side(kernel: Kernel) -> None:
    """Plain functions of several runs work at the same time."""
    together = threading.Barrier(8)

    def work(store: Any) -> str:
        together.wait(PATIENCE)
        return "end"

    flow = flow_of(work)
    results = await asyncio.gather(*(kernel.run(flow) for _ in range(8)))

    assert [result.state for result in results] == ["end"] * 8


async def test_the_event_loop_goes_on_meanwhile(kernel: Kernel) -> None:
    """While a thread works, others run."""
    work = Blocking()
    handle = await kernel.start(flow_of(work))
    await happened(work.began)

    assert (await kernel.run(flow_of(Blocking(0)))).state == "end"
    work.go.set()
    assert (await handle.result()).data == {"early": 1, "calls": [1, "late"], "late": 1}


async def test_virtual_time_waits_for_threads(kernel: Kernel, clock: VirtualClock) -> None:
    """A thread that takes real time takes no virtual time: it does not run into a limit by accident."""
    work = Blocking()
    handle = await kernel.start(flow_of(work, timeout=5), timeout=6)
    await happened(work.began)
    for _ in range(100):
        await asyncio.sleep(0)
    work.go.set()

    assert (await handle.result()).state == "end"
    assert clock.monotonic() == 0


async def test_closing_the_kernel_ends_the_threads(clock: VirtualClock) -> None:
    """Worker threads do not outlive their kernel."""
    workers: list[threading.Thread] = []

    def work(store: Any) -> str:
        workers.append(threading.current_thread())
        return "end"

    async with Kernel(discover=False, clock=clock) as kernel:
        await kernel.run(flow_of(work))
    for worker in workers:
        await asyncio.to_thread(worker.join, PATIENCE)

    assert [worker.is_alive() for worker in workers] == [False]


# what it raises


@pytest.mark.parametrize(
    "problem",
    [
        ValueError("mine"),
        TimeoutError("mine"),
        concurrent.futures.CancelledError("mine"),
        asyncio.InvalidStateError("mine"),
        StopAsyncIteration("mine"),
    ],
    ids=repr,
)
async def test_an_exception_is_the_cause_itself(kernel: Kernel, problem: Exception) -> None:
    """Whatever the thread raised is the cause: the same object, with the traceback of where it was raised."""

    def work(store: Any) -> str:
        raise problem

    with pytest.raises(TaskError, match="mine") as caught:
        await kernel.run(flow_of(work))
    assert caught.value.__cause__ is problem
    assert "work" in [frame.name for frame in traceback.extract_tb(problem.__traceback__)]


async def test_it_is_retried_like_any_other(kernel: Kernel) -> None:
    """Each attempt has a thread; the writes of the failed ones are gone."""
    calls: list[int] = []

    def work(store: Any) -> str:
        calls.append(current_step().attempt)
        store.append("attempts", current_step().attempt)
        if len(calls) < 3:
            raise TimeoutError("busy")
        return "end"

    result = await kernel.run(flow_of(work, retry=Retries(2)))

    assert calls == [1, 2, 3]
    assert result.data == {"attempts": [3]}


async def test_stop_iteration(kernel: Kernel) -> None:
    """An asyncio future cannot carry it: it is told as a `RuntimeError`, and the run does not hang."""

    def work(store: Any) -> str:
        return str(next(iter([])))

    with pytest.raises(TaskError, match="RuntimeError: the task raised StopIteration") as caught:
        await kernel.run(flow_of(work))
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert isinstance(caught.value.__cause__.__cause__, StopIteration)


class Stop(BaseException):
    """A user's own exception that is no `Exception`."""


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, Stop])
async def test_base_exceptions_are_never_retried(kernel: Kernel, kind: type[BaseException]) -> None:
    """They end the run, as themselves, also out of a thread."""
    problem, calls = kind("now"), []

    def work(store: Any) -> str:
        calls.append(1)
        raise problem

    with pytest.raises(kind) as caught:
        await kernel.run(flow_of(work, retry=Retries(3)))
    assert caught.value is problem
    assert calls == [1]


# limits


async def test_a_timed_out_thread_is_abandoned(threaded: Kernel, passing: Passing) -> None:
    """The error says that the thread was abandoned, not stopped: it is still running, and its writes are discarded."""
    work, store = Blocking(), MemoryStore({"kept": 1})
    handle = await threaded.start(flow_of(work, timeout=5), store)
    await happened(work.began)
    await passing.advance(5)

    with pytest.raises(StepTimeoutError, match="its thread cannot be stopped and was abandoned") as caught:
        await handle.result()
    assert (caught.value.abandoned, caught.value.total, caught.value.timeout) == (True, False, 5)
    assert not work.ended.is_set()
    work.go.set()
    await happened(work.ended)
    assert dict(store.live()) == {"kept": 1}


@pytest.mark.parametrize("make", [dict, MemoryStore])
async def test_the_attempt_after_an_abandoned_one(threaded: Kernel, passing: Passing, make: Callable[[], Any]) -> None:
    """Its writes are committed; the abandoned thread's are not, neither those before its limit nor those after."""
    work, store = Blocking(), make()

    async def second(view: Any) -> str:
        view.append("calls", "second step")
        return "end"

    def first(view: Any) -> str:
        work(view)
        return "second"

    flow = Workflow("start").register("start", first, config=TaskConfig(retry=Retries(1), timeout=5))
    flow.register("second", second).add_exit_state("end")
    running = asyncio.create_task(threaded.orchestrate(flow, store))
    await happened(work.began)
    await passing.advance(5)
    await passing.advance(1)

    assert await running == "end"
    work.go.set()
    await happened(work.ended)
    assert {key: store[key] for key in store} == {"early": 2, "calls": [2, "second step"]}


async def test_the_data_of_a_run_after_an_abandoned_attempt(threaded: Kernel, passing: Passing) -> None:
    """The same for data that the kernel keeps."""
    work = Blocking(2)
    handle = await threaded.start(flow_of(work, retry=Retries(2), timeout=5), {"calls": [0]})
    for _ in range(2):
        await happened(work.began)
        work.began.clear()
        await passing.advance(5)
        await passing.advance(1)

    assert (await handle.result()).data == {"calls": [0, 3], "early": 3}
    work.go.set()
    await happened(work.ended)
    assert (await handle.result()).data == {"calls": [0, 3], "early": 3}


async def test_exhausted_by_timeouts(threaded: Kernel, passing: Passing) -> None:
    """Where the last attempt was abandoned too, that is the cause."""
    work = Blocking(2)
    handle = await threaded.start(flow_of(work, retry=Retries(1), timeout=5))
    for _ in range(2):
        await happened(work.began)
        work.began.clear()
        await passing.advance(5)
        await passing.advance(1)

    with pytest.raises(RetryExhaustedError) as caught:
        await handle.result()
    assert isinstance(caught.value.__cause__, StepTimeoutError)
    assert caught.value.__cause__.abandoned
    work.go.set()


async def test_total_timeout_abandons_too(threaded: Kernel, passing: Passing) -> None:
    """The limit of the whole step does the same as that of an attempt."""
    work = Blocking()
    handle = await threaded.start(flow_of(work, total_timeout=5))
    await happened(work.began)
    await passing.advance(5)

    with pytest.raises(StepTimeoutError) as caught:
        await handle.result()
    assert (caught.value.abandoned, caught.value.total) == (True, True)
    work.go.set()


async def test_nothing_is_abandoned_between_attempts(kernel: Kernel) -> None:
    """A step that ends because its next attempt would come too late has no thread running."""

    def work(store: Any) -> str:
        raise OSError

    with pytest.raises(StepTimeoutError, match="retries included\n") as caught:
        await kernel.run(flow_of(work, retry=Retries(5), total_timeout=1))
    assert (caught.value.abandoned, caught.value.total) == (False, True)


async def test_async_tasks_are_stopped_not_abandoned(kernel: Kernel) -> None:
    """Only threads outlive their limit."""

    async def work(store: Any) -> str:
        await asyncio.Event().wait()
        return "end"

    with pytest.raises(StepTimeoutError) as caught:
        await kernel.run(flow_of(work, timeout=5))
    assert not caught.value.abandoned
    assert "abandoned" not in str(caught.value)


async def test_run_timeout_leaves_no_trace(threaded: Kernel, passing: Passing) -> None:
    """A thread that outlives its run writes to nothing that anybody reads."""
    work, store = Blocking(), MemoryStore()
    handle = await threaded.start(flow_of(work), store, timeout=5)
    await happened(work.began)
    await passing.advance(5)

    with pytest.raises(RunTimeoutError):
        await handle.result()
    work.go.set()
    await happened(work.ended)
    assert len(store) == 0


async def test_cancelling_leaves_no_trace(threaded: Kernel) -> None:
    """A run in a thread ends at once when it is cancelled, whatever the thread does."""
    work, store = Blocking(), MemoryStore()
    handle = await threaded.start(flow_of(work), store)
    await happened(work.began)
    await handle.cancel()

    with pytest.raises(RunCancelledError):
        await handle.result()
    assert not work.ended.is_set()
    work.go.set()
    await happened(work.ended)
    assert len(store) == 0


async def test_an_abandoned_thread_takes_no_worker_from_others(threaded: Kernel, passing: Passing) -> None:
    """However many threads hang, the next plain function finds one to run in; those under way go on."""
    other, hanging = Blocking(), [Blocking() for _ in range(70)]
    beside = await threaded.start(flow_of(other))
    await happened(other.began)
    for work in hanging:
        handle = await threaded.start(flow_of(work, timeout=5))
        await happened(work.began)
        await passing.advance(5)
        with pytest.raises(StepTimeoutError):
            await handle.result()

    assert (await threaded.run(flow_of(Blocking(0)))).state == "end"
    other.go.set()
    assert (await beside.result()).data["calls"] == [1, "late"]
    for work in hanging:
        work.go.set()


async def test_a_store_of_the_users_own_is_the_users_business(threaded: Kernel, passing: Passing) -> None:
    """An object that the kernel does not manage keeps what a failed attempt did to it."""
    began, go = threading.Event(), threading.Event()

    class Own:
        def __init__(self) -> None:
            self.calls: list[str] = []

    def work(store: Own) -> str:
        store.calls.append("early")
        began.set()
        go.wait(PATIENCE)
        return "end"

    own = Own()
    running = asyncio.create_task(threaded.orchestrate(flow_of(work, timeout=5), own))
    await happened(began)
    await passing.advance(5)

    with pytest.raises(StepTimeoutError):
        await running
    assert own.calls == ["early"]
    go.set()
