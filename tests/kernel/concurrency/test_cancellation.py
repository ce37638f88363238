"""Cancellation of splits, sub-workflows, waits for a place and batches: every way, in every place."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any

import pytest
from cano import (
    Cancelled,
    ConcurrentWorkflow,
    JoinConfig,
    JoinError,
    JoinStrategy,
    Kernel,
    Run,
    RunCancelledError,
    RunInterruptedError,
    RunStatus,
    RunTimeoutError,
    Step,
    SubWorkflow,
    TaskConfig,
    TaskError,
    WaitStrategy,
    Workflow,
    hookimpl,
)
from cano.testing import VirtualClock
from cano_memory import MemoryStore

ALL = JoinStrategy.all()
WAYS = ["handle", "caller", "close", "timeout", "batch", "asyncio.timeout"]
PLACES = [
    "task",
    "retry pause",
    "branch",
    "branch's retry pause",
    "branch's place",
    "maker",
    "join's clean-up",
    "run's place",
    "state's place",
    "child",
    "child in a branch",
    "branch in a child",
    "three deep",
    "thread",
    "thread in a branch",
]


class Balance:
    """An observer that counts starts and ends: of runs, of steps, and of branches."""

    def __init__(self) -> None:
        self.begun = 0
        self.open: list[tuple[str, str | None, int]] = []

    def begin(self, run_id: str, branch: str | None, seq: int) -> None:
        """Something has started."""
        self.begun += 1
        self.open.append((run_id, branch, seq))

    @hookimpl
    def cano_run_started(self, run: Run) -> None:
        """See the hook."""
        self.begin(run.run_id, None, 0)

    @hookimpl
    def cano_run_finished(self, run: Run) -> None:
        """See the hook."""
        self.open.remove((run.run_id, None, 0))

    @hookimpl
    def cano_step_started(self, step: Step) -> None:
        """See the hook."""
        self.begin(step.run_id, step.branch, step.seq)

    @hookimpl
    def cano_step_finished(self, step: Step) -> None:
        """See the hook."""
        self.open.remove((step.run_id, step.branch, step.seq))

    @hookimpl
    def cano_step_failed(self, step: Step) -> None:
        """See the hook."""
        self.open.remove((step.run_id, step.branch, step.seq))


class Always:
    """A retry strategy that never gives up."""

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """See `RetryStrategy`."""
        return 50


@pytest.fixture
async def balance(clock: VirtualClock) -> AsyncIterator[Balance]:
    """An observer; when the test ends, all that was started has ended exactly once."""
    balance = Balance()
    yield balance
    assert balance.open == []
    assert balance.begun > 0


@pytest.fixture
async def kernel(clock: VirtualClock, balance: Balance) -> AsyncIterator[Kernel]:
    """A kernel with that observer."""
    async with Kernel(discover=False, clock=clock, grace=0, plugins=[balance]) as kernel:
        yield kernel
        assert kernel.active == {}
        assert kernel.observer_errors == {}


def flow_of(work: Any, *, name: str = "one", config: TaskConfig | None = None, **options: Any) -> Workflow[str]:
    """A workflow of one task."""
    flow = Workflow("start", name=name, **options)
    return flow.register("start", work, config=config).add_exit_state("end")


def split_of(branches: Any, config: TaskConfig | None = None, **join: Any) -> Workflow[str]:
    """A workflow of one split."""
    flow = Workflow("start", name="split")
    flow.register_split("start", branches, JoinConfig(next_state="end", **{"strategy": ALL, **join}), config=config)
    return flow.add_exit_state("end")


def sub(flow: Workflow[str]) -> SubWorkflow[str]:
    """It as a task."""
    return SubWorkflow(flow, then="end")


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Lets threads go when the test ends."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def begun() -> asyncio.Event:
    """Set when a place is busy in which virtual time does not tell that: in a thread, or in a join's clean-up."""
    return asyncio.Event()


@pytest.fixture
async def flow(
    kernel: Kernel, clock: VirtualClock, begun: asyncio.Event, release: threading.Event, request: pytest.FixtureRequest
) -> AsyncIterator[Workflow[str]]:
    """A workflow that does not end by itself, and is busy in the place that is asked for."""
    place: str = request.param
    loop = asyncio.get_running_loop()

    async def long(store: Any) -> str:
        store["half"] = True
        await clock.sleep(3600)
        return "end"

    async def bad(store: Any) -> str:
        store["half"] = True
        raise OSError

    async def quick(store: Any) -> str:
        store["half"] = True
        return "end"

    async def untidy(store: Any) -> str:
        try:
            await clock.sleep(3600)
        finally:
            begun.set()
            await clock.sleep(0.5)
        return "end"

    async def maker(store: Any) -> Any:
        store["half"] = True
        await clock.sleep(3600)

    def blocking(store: Any) -> str:
        store["half"] = True
        loop.call_soon_threadsafe(begun.set)
        release.wait(60)
        return "end"

    retry = TaskConfig(retry=Always())
    first = None
    match place:
        case "task":
            flow = flow_of(long)
        case "retry pause":
            flow = flow_of(bad, config=retry)
        case "branch":
            flow = split_of([long] * 3)
        case "branch's retry pause":
            flow = split_of([bad] * 3, retry)
        case "branch's place":
            flow = split_of([long] * 3, limit=1)
        case "maker":
            flow = split_of(maker)
        case "join's clean-up":
            flow = split_of([untidy, quick], strategy=JoinStrategy.any())
        case "run's place":
            flow = flow_of(long, limit=1)
            first = await kernel.start(flow)
        case "state's place":
            flow = Workflow("start").register("start", long, limit=1).add_exit_state("end")
            first = await kernel.start(flow)
        case "child":
            flow = flow_of(sub(flow_of(long)))
        case "child in a branch":
            flow = split_of([sub(flow_of(long)), long])
        case "branch in a child":
            flow = flow_of(sub(split_of([long] * 2)))
        case "three deep":
            flow = split_of([sub(split_of([sub(split_of([sub(flow_of(long))])), long])), long])
        case "thread":
            flow = flow_of(blocking)
        case _:
            flow = split_of([blocking] * 3)
    await asyncio.sleep(0)
    yield flow
    if first is not None and not kernel.closed:
        await first.cancel()


@pytest.mark.parametrize(
    ("flow", "way", "place"),
    [
        pytest.param(place, way, place, id=f"{place}, {way}")
        for place in PLACES
        for way in WAYS
        # virtual time stands still while a thread works
        if not ("thread" in place and way in ("timeout", "batch"))
    ],
    indirect=["flow"],
)
async def test_every_way_in_every_place(
    kernel: Kernel, clock: VirtualClock, flow: Workflow[str], begun: asyncio.Event, way: str, place: str
) -> None:
    """The run ends there and then, says why, and has left no task, no timer, and nothing in its store."""
    store = MemoryStore({"old": 1})
    at_begin = "thread" in place or place == "join's clean-up"
    busy: Coroutine[Any, Any, object] = begun.wait() if at_begin else clock.sleep(0.25)

    if way == "handle":
        handle = await kernel.start(flow, store)
        await busy
        await handle.cancel()
        with pytest.raises(RunCancelledError):
            await handle.result()
        assert handle.status().status is RunStatus.CANCELLED
    elif way == "caller":
        caller = asyncio.create_task(kernel.run(flow, store))
        await busy
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
    elif way == "close":
        handle = await kernel.start(flow, store)
        await busy
        await kernel.close()
        with pytest.raises(RunInterruptedError):
            await handle.result()
        assert handle.status().status is RunStatus.INTERRUPTED
    elif way == "timeout":
        busy.close()
        with pytest.raises(RunTimeoutError):
            await kernel.run(flow, store, timeout=0.25)
    elif way == "batch":
        busy.close()
        results, _ = await ConcurrentWorkflow(flow, kernel=kernel).execute_concurrent(
            [store], WaitStrategy.duration(0.25)
        )
        assert results == [Cancelled()]
    else:
        with pytest.raises(TimeoutError):
            await within_a_timeout(kernel.run(flow, store), busy)

    assert dict(store.live()) == {"old": 1}
    assert clock.monotonic() <= 0.5


async def turns(count: int) -> None:
    """Let the event loop turn."""
    for _ in range(count):
        await asyncio.sleep(0)


async def within_a_timeout(run: Coroutine[Any, Any, Any], busy: Coroutine[Any, Any, object]) -> None:
    """Await `run` within an `asyncio.timeout` that is over after `busy`."""

    async def be_over(limit: asyncio.Timeout) -> None:
        await busy
        limit.reschedule(0)

    async with asyncio.timeout(None) as limit, asyncio.TaskGroup() as group:
        group.create_task(be_over(limit))
        await run


# moments


@pytest.mark.parametrize("turn", range(12))
@pytest.mark.parametrize("way", ["handle", "caller", "close"])
async def test_at_every_turn_of_a_split_in_a_child(clock: VirtualClock, balance: Balance, way: str, turn: int) -> None:
    """Before it begins, between its steps, while branches start, end or merge: there is no wrong moment."""

    async def work(store: Any) -> str:
        store["a"] = 1
        await asyncio.sleep(0)
        store["b"] = 1
        return "end"

    child = flow_of(work)
    inner = split_of([work, SubWorkflow(child, outputs={"a": "c", "b": "d"}, then="end"), work])
    flow = Workflow("first").register("first", SubWorkflow(inner, then="second"))
    flow.register_split("second", [work, work], JoinConfig(ALL, "end")).add_exit_state("end")
    store = MemoryStore()
    kernel = Kernel(discover=False, clock=clock, grace=0, plugins=[balance])
    await kernel.open()
    if way == "caller":
        caller = asyncio.create_task(kernel.run(flow, store))
        await turns(turn)
        caller.cancel()
        ended = (await asyncio.gather(caller, return_exceptions=True))[0]
        if not balance.begun:
            balance.begun = 1
    else:
        handle = await kernel.start(flow, store)
        await turns(turn)
        if way == "handle":
            await handle.cancel()
        else:
            await kernel.close()
        ended = (await asyncio.gather(handle.result(), return_exceptions=True))[0]
    await kernel.close()

    # the second state's commit is the only one that writes: all of it is there, or nothing
    assert dict(store.live()) == ({} if isinstance(ended, BaseException) else {"a": 1, "b": 1})
    assert kernel.active == {}


async def test_some_turn_is_late_enough() -> None:
    """The test above sees the run end by itself as well."""
    clock, seen = VirtualClock(), Balance()
    kernel = Kernel(discover=False, clock=clock, grace=0, plugins=[seen])

    async def work(store: Any) -> str:
        return "end"

    flow = flow_of(sub(split_of([work, sub(flow_of(work)), work])))
    handle = await kernel.start(flow)
    await turns(12)
    assert handle.status().status is RunStatus.SUCCEEDED
    await kernel.close()


# who is cancelled, and who is not


async def test_cancelling_a_child_fails_its_parents_step(kernel: Kernel, clock: VirtualClock) -> None:
    """A child that somebody cancels has not done its work: its parent fails, and was not cancelled itself."""
    runs: list[Run] = []

    async def long(store: Any) -> str:
        runs.extend(run for run in kernel.active.values() if run.parent_id is not None)
        await clock.sleep(3600)
        return "end"

    handle = await kernel.start(flow_of(sub(flow_of(long, name="child"))))
    await clock.sleep(1)
    runs[0].stop(RunStatus.CANCELLED)
    with pytest.raises(TaskError) as caught:
        await handle.result()

    assert isinstance(caught.value.__cause__, RunCancelledError)
    assert handle.status().status is RunStatus.FAILED
    assert runs[0].status is RunStatus.CANCELLED


async def test_cancelling_one_run_leaves_its_neighbours(kernel: Kernel, clock: VirtualClock) -> None:
    """Runs of the same flow, in the middle of the same split."""

    async def work(store: Any) -> str:
        await clock.sleep(2)
        return "end"

    handles = [await kernel.start(split_of([work] * 3)) for _ in range(3)]
    await clock.sleep(1)
    await handles[1].cancel()

    assert (await handles[0].result()).state == (await handles[2].result()).state == "end"
    with pytest.raises(RunCancelledError):
        await handles[1].result()


async def test_a_waiter_may_give_up(kernel: Kernel, clock: VirtualClock) -> None:
    """Cancelling who waits for the result cancels nothing of the run; `cancel` does."""

    async def work(store: Any) -> str:
        await clock.sleep(5)
        return "end"

    handle = await kernel.start(split_of([work, sub(flow_of(work))]))
    waiters = [asyncio.create_task(handle.result()) for _ in range(3)]
    await clock.sleep(1)
    waiters[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiters[0]
    assert [(await waiter).state for waiter in waiters[1:]] == ["end", "end"]
    assert clock.monotonic() == 5


async def test_a_place_is_free_after_a_cancellation(kernel: Kernel, clock: VirtualClock) -> None:
    """Whether it was held or waited for."""

    async def work(store: Any) -> str:
        await clock.sleep(10)
        return "end"

    flow = Workflow("start", limit=2).register("start", work, limit=1).add_exit_state("end")
    handles = [await kernel.start(flow) for _ in range(5)]
    await clock.sleep(1)
    for number in (0, 1, 3):
        await handles[number].cancel()

    assert (await handles[2].result()).state == "end"
    assert clock.monotonic() == 11
    assert (await handles[4].result()).state == "end"
    assert clock.monotonic() == 21


@pytest.mark.parametrize("way", ["handle", "close"])
async def test_a_run_that_had_no_turn_yet_does_not_wait_for_its_place(
    kernel: Kernel, clock: VirtualClock, way: str
) -> None:
    """Cancelled before it began, it ends at once, although others hold all the places."""

    async def work(store: Any) -> str:
        await clock.sleep(10)
        return "end"

    flow = flow_of(work, limit=1)
    first = await kernel.start(flow)
    await clock.sleep(1)
    second = await kernel.start(flow)
    if way == "handle":
        await second.cancel()
        assert clock.monotonic() == 1
        await first.result()
    else:
        await kernel.close()
    with pytest.raises(RunCancelledError if way == "handle" else RunInterruptedError):
        await second.result()
    assert clock.monotonic() == (10 if way == "handle" else 1)


async def test_a_cancelled_split_leads_nowhere(kernel: Kernel, clock: VirtualClock) -> None:
    """`on_exhausted` is for failures."""

    async def work(store: Any) -> str:
        await clock.sleep(10)
        return "end"

    handle = await kernel.start(split_of([work], TaskConfig(on_exhausted="end")))
    await clock.sleep(1)
    await handle.cancel()
    with pytest.raises(RunCancelledError):
        await handle.result()


async def test_a_branch_that_fails_while_it_is_cancelled(kernel: Kernel, clock: VirtualClock) -> None:
    """What it makes of its cancellation is no failure of its own, and hides neither a real one nor the cancelling."""

    async def work(store: Any) -> str:
        try:
            await clock.sleep(10)
        finally:
            raise OSError("in the clean-up")

    async def bad(store: Any) -> str:
        await clock.sleep(1)
        raise OSError("first")

    handle = await kernel.start(split_of([work, work]))
    await clock.sleep(1)
    await handle.cancel()
    with pytest.raises(RunCancelledError):
        await handle.result()
    with pytest.raises(JoinError) as caught:
        await kernel.run(split_of([work, bad]))
    assert [branch.status.value for branch in caught.value.outcome.branches] == ["cancelled", "failed"]
    assert str(caught.value.__cause__).endswith("first")


async def test_ten_thousand_branches_are_cancelled(kernel: Kernel, clock: VirtualClock) -> None:
    """All of them, and all clean up."""
    cleaned = itertools.count()

    async def work(store: Any) -> str:
        try:
            await clock.sleep(10)
        finally:
            next(cleaned)
        return "end"

    handle = await kernel.start(split_of([work] * 10_000))
    await clock.sleep(1)
    await handle.cancel()

    assert next(cleaned) == 10_000
