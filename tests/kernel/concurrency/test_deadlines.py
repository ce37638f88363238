"""A deadline is a deadline: whatever happens within it, the run ends when it is over."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import pytest
from cano import (
    Capabilities,
    Commit,
    ConcurrentWorkflow,
    Failed,
    JoinConfig,
    JoinStrategy,
    Kernel,
    RetryExhaustedError,
    RunFilter,
    RunRecord,
    RunStatus,
    RunTimeoutError,
    Signal,
    Signals,
    StepTimeoutError,
    SubWorkflow,
    TaskConfig,
    Transition,
    WaitStrategy,
    Workflow,
    current_step,
)
from cano.testing import VirtualClock
from cano_durability.keys import MARK
from cano_memory import MemoryStore

from tests.clocks import Passing

GRACE = 1.0
"""Seconds that a clean-up gets before it is cancelled again."""


def flow_of(work: Any, **config: Any) -> Workflow[str]:
    """A workflow of one task."""
    return Workflow("start", name="one").register("start", work, config=TaskConfig(**config)).add_exit_state("end")


def split_of(*branches: Any, strategy: JoinStrategy | None = None, **join: Any) -> Workflow[str]:
    """A workflow of one split."""
    config = JoinConfig(strategy or JoinStrategy.all(), "end", **join)
    return Workflow("start", name="split").register_split("start", branches, config).add_exit_state("end")


class Always:
    """A retry strategy that never gives up."""

    def __init__(self, delay: float) -> None:
        self.seconds = delay

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """See `RetryStrategy`."""
        return self.seconds


async def out_of_time(kernel: Kernel, flow: Workflow[Any], seconds: float, data: Any = None) -> RunTimeoutError:
    """Run with a timeout that is reached; the error."""
    with pytest.raises(RunTimeoutError, match=f"took longer than {seconds:g} s") as caught:
        await kernel.run(flow, data, timeout=seconds)
    assert caught.value.timeout == seconds
    return caught.value


# what the time is spent on


async def test_a_loop_of_quick_steps(kernel: Kernel, clock: VirtualClock) -> None:
    """No step takes long, all of them do; what was committed stays."""

    async def work(store: Any) -> str:
        await clock.sleep(0.1)
        store["steps"] += 1
        return "start"

    store = MemoryStore({"steps": 0})
    await out_of_time(kernel, flow_of(work), 5.05, store)

    assert clock.monotonic() == 5.05
    assert store["steps"] == 50


async def test_a_loop_of_steps_that_never_wait() -> None:
    """A run that gives nobody else a turn meets its deadline all the same. In real time, since no other passes."""
    steps = 0

    async def work(store: Any) -> str:
        nonlocal steps
        steps += 1
        return "start"

    async with Kernel(discover=False) as kernel:
        await out_of_time(kernel, flow_of(work), 0.02)
    assert steps > 100


@pytest.mark.parametrize("what", ["task", "retries", "attempts", "split", "place", "child", "grandchild", "dynamic"])
async def test_the_deadline_covers_everything(kernel: Kernel, clock: VirtualClock, what: str) -> None:
    """Whatever the run is busy with, or waits for, at 5 seconds it is over, and its store is as it was."""

    async def long(store: Any) -> str:
        store["trace"] = True
        await clock.sleep(3600)
        return "end"

    async def bad(store: Any) -> str:
        raise OSError

    async def make(store: Any) -> Any:
        await clock.sleep(3600)

    flow: Workflow[str]
    if what == "task":
        flow = flow_of(long)
    elif what == "retries":
        flow = flow_of(bad, retry=Always(50))
    elif what == "attempts":
        flow = flow_of(long, retry=Always(0.5), timeout=1)
    elif what == "split":
        flow = split_of(*[long] * 10, limit=3)
    elif what == "place":
        flow = Workflow("start", limit=1).register("start", long).add_exit_state("end")
        first = await kernel.start(flow)
        await asyncio.sleep(0)
    elif what == "child":
        flow = flow_of(SubWorkflow(flow_of(long), then="end"))
    elif what == "grandchild":
        flow = split_of(SubWorkflow(split_of(SubWorkflow(flow_of(long), then="end")), then="end"))
    else:
        flow = Workflow("start").register_split("start", make, JoinConfig(JoinStrategy.all(), "end"))
        flow.add_exit_state("end")

    store = MemoryStore()
    error = await out_of_time(kernel, flow, 5, store)

    assert clock.monotonic() == 5
    assert error.state == "start"
    assert len(store) == 0
    if what == "place":
        await first.cancel()


async def test_the_earliest_limit_counts(kernel: Kernel, clock: VirtualClock) -> None:
    """An attempt's timeout, the step's, the join's and the run's, one within the other."""

    async def long(store: Any) -> str:
        await clock.sleep(3600)
        return "end"

    limits: dict[str, Any] = {"timeout": 2, "total_timeout": 7}
    with pytest.raises(StepTimeoutError, match="longer than 2 s"):
        await kernel.run(flow_of(long, **limits), timeout=100)
    assert clock.monotonic() == 2
    with pytest.raises(StepTimeoutError, match="longer than 7 s, retries included"):
        await kernel.run(flow_of(long, retry=Always(0), **limits), timeout=100)
    assert clock.monotonic() == 9
    await out_of_time(kernel, flow_of(long, retry=Always(0), **limits), 5)
    assert clock.monotonic() == 14


async def test_a_run_that_is_in_time(kernel: Kernel, clock: VirtualClock) -> None:
    """A deadline that is not reached changes nothing, and leaves nothing behind."""

    async def work(store: Any) -> str:
        assert current_step().deadline == 5
        await clock.sleep(4.99)
        return "end"

    assert (await kernel.run(flow_of(work), timeout=5)).state == "end"
    await clock.sleep(100)


async def test_a_task_cannot_retry_or_catch_its_way_out(kernel: Kernel, clock: VirtualClock) -> None:
    """Neither `on_exhausted` nor a task that turns the cancellation into an error of its own goes on."""

    async def work(store: Any) -> str:
        try:
            await clock.sleep(3600)
        except asyncio.CancelledError:
            raise OSError("not I") from None
        return "end"

    await out_of_time(kernel, flow_of(work, retry=Always(0), on_exhausted="start"), 5)

    assert clock.monotonic() == 5


async def test_a_task_that_ends_well_on_its_cancellation(kernel: Kernel, clock: VirtualClock) -> None:
    """A last step that swallows it has ended too late: the run has timed out, however it got there."""

    async def work(store: Any) -> str:
        try:
            await clock.sleep(3600)
        except asyncio.CancelledError:
            return "end"
        return "start"

    await out_of_time(kernel, flow_of(work), 5)


# teardown


@pytest.mark.parametrize("place", ["task", "branch", "child", "attempt"])
async def test_a_clean_up_that_hangs(kernel: Kernel, clock: VirtualClock, place: str) -> None:
    """It gets its grace, and then it is cancelled again."""

    async def work(store: Any) -> str:
        try:
            await clock.sleep(3600)
        finally:
            await clock.sleep(3600)
        return "end"

    flow = {
        "task": flow_of(work),
        "branch": split_of(work, work, work),
        "child": flow_of(SubWorkflow(flow_of(work), then="end")),
        "attempt": flow_of(work, timeout=100),
    }[place]
    await out_of_time(kernel, flow, 5)

    assert clock.monotonic() == 5 + GRACE


@pytest.mark.parametrize("times", [1, 2, 5])
@pytest.mark.parametrize("place", ["task", "branch", "child in a branch"])
async def test_a_task_that_swallows_its_cancellation(
    kernel: Kernel, clock: VirtualClock, place: str, times: int
) -> None:
    """However often it does so, it is cancelled again after each grace, and never gets away with it."""
    swallowed: list[float] = []

    async def work(store: Any) -> str:
        while True:
            try:
                await clock.sleep(3600)
            except asyncio.CancelledError:
                if len(swallowed) == times:
                    raise
                swallowed.append(clock.monotonic())

    flow = {
        "task": flow_of(work),
        "branch": split_of(work),
        "child in a branch": split_of(SubWorkflow(flow_of(work), then="end")),
    }[place]
    await out_of_time(kernel, flow, 5)

    assert swallowed == [5 + GRACE * n for n in range(times)]
    assert clock.monotonic() == 5 + GRACE * times


async def test_an_attempt_that_hangs_in_its_clean_up(kernel: Kernel, clock: VirtualClock) -> None:
    """The same for the time limit of an attempt, which is retried afterwards."""
    times: list[float] = []

    async def work(store: Any) -> str:
        times.append(clock.monotonic())
        if current_step().attempt == 3:
            return "end"
        try:
            await clock.sleep(3600)
        finally:
            await clock.sleep(3600)
        return "start"

    await kernel.run(flow_of(work, timeout=5, retry=Always(2)))

    assert times == [0, 8, 16]


async def test_a_split_timeout_with_clean_ups_that_hang(kernel: Kernel, clock: VirtualClock) -> None:
    """A join's time is over when it is over."""

    async def work(store: Any) -> None:
        try:
            await clock.sleep(3600)
        finally:
            await clock.sleep(3600)

    await kernel.run(split_of(work, work, strategy=JoinStrategy.partial(0), timeout=5))

    assert clock.monotonic() == 5 + GRACE


async def test_a_batch_of_runs_with_clean_ups_that_hang(kernel: Kernel, clock: VirtualClock) -> None:
    """A duration too."""

    async def work(store: Any) -> str:
        try:
            await clock.sleep(3600)
        finally:
            await clock.sleep(3600)
        return "end"

    batch = ConcurrentWorkflow(split_of(work, work), kernel=kernel)
    _, status = await batch.execute_concurrent([{}, {}], WaitStrategy.duration(5))

    assert status.duration == clock.monotonic() == 5 + GRACE


async def test_a_thread_is_left_behind() -> None:
    """A function that blocks cannot be stopped: the run ends without it, and its writes go nowhere."""
    go_on, ended = threading.Event(), threading.Event()
    clock, loop, began = Passing(), asyncio.get_running_loop(), asyncio.Event()

    def work(store: Any) -> str:
        loop.call_soon_threadsafe(began.set)
        go_on.wait(60)
        store["late"] = True
        ended.set()
        return "end"

    store = MemoryStore()
    async with Kernel(discover=False, clock=clock) as kernel:
        running = asyncio.ensure_future(out_of_time(kernel, flow_of(work), 5, store))
        await began.wait()  # a thread that begins later than the timeout does not call the function
        await clock.advance(5)
        await running
        go_on.set()
        assert await asyncio.to_thread(ended.wait, 60)
    assert len(store) == 0


# a store that hangs


class HungStore:
    """A store of which one method never returns, from a certain commit on."""

    capabilities = Capabilities(durable=True, encoded=False)

    def __init__(self, *hangs: str, commits: int = 0, stubborn: bool = False) -> None:
        self.hangs = hangs
        self.commits = commits
        self.stubborn = stubborn
        self.records: dict[str, RunRecord] = {}
        self.done: list[Commit] = []
        self.let_go = asyncio.Event()

    async def _maybe(self, method: str) -> None:
        if method in self.hangs and len(self.done) >= self.commits:
            try:
                await self.let_go.wait()
            except asyncio.CancelledError:
                if not self.stubborn:
                    raise
                await self.let_go.wait()

    async def open(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""

    async def create(self, run: RunRecord) -> RunRecord:
        """Keep it."""
        await self._maybe("create")
        return self.records.setdefault(run.run_id, run)

    async def load(self, run_id: str) -> RunRecord | None:
        """Get it. A kernel that opens looks for the mark of a sealed store, which does not hang."""
        if run_id != MARK:
            await self._maybe("load")
        return self.records.get(run_id)

    async def commit(self, commit: Commit) -> None:
        """Note it."""
        await self._maybe("commit")
        self.done.append(commit)

    async def claim(self, run_id: str, holder: str, now: float, expires: float) -> int | None:
        """Not here."""
        return None

    async def renew(self, holder: str, tokens: Mapping[str, int], expires: float) -> Sequence[str]:
        """All is well."""
        return ()

    async def release(self, run_id: str, token: int) -> None:
        """Free it."""
        await self._maybe("release")

    async def runs(self, filter: RunFilter) -> Sequence[RunRecord]:
        """None."""
        return ()

    async def history(self, run_id: str) -> Sequence[Transition]:
        """None."""
        return ()

    async def put_signal(self, run_id: str, signal: Signal) -> None:
        """Ignore it."""

    async def next_signal(self, run_id: str, name: str, own: bool = False) -> Signal | None:
        """None."""
        return None

    async def signals(self, run_id: str) -> Signals:
        """None."""
        return Signals()

    async def missing_recipients(self) -> Sequence[str]:
        """None."""
        return ()

    async def ready(self, now: float) -> Sequence[RunRecord]:
        """None."""
        return ()

    async def delete(self, run_id: str) -> bool:
        """Nothing."""
        return False


def three_steps(clock: VirtualClock) -> Workflow[str]:
    """A second each."""

    def step(following: str) -> Callable[[Any], Any]:
        async def work(store: Any) -> str:
            await clock.sleep(1)
            return following

        return work

    flow = Workflow("a", name="three").register("a", step("b")).register("b", step("c")).register("c", step("d"))
    return flow.add_exit_state("d")


@pytest.fixture
async def on_store(clock: VirtualClock) -> AsyncIterator[Callable[[HungStore], Any]]:
    """Makes kernels on such a store, and closes them. Calls of the store that were given up end soon after."""
    kernels: list[Kernel] = []

    def make(store: HungStore) -> Kernel:
        kernels.append(Kernel(discover=False, clock=clock, store=store, grace=0))
        return kernels[-1]

    yield make
    await clock.sleep(3 * GRACE)
    for kernel in kernels:
        await kernel.close()


@pytest.mark.parametrize(
    ("hangs", "graces"),
    [
        (("commit",), 1),
        (("commit", "load"), 2),
        (("commit", "load", "release"), 2),
        (("create",), 0),
        (("create", "load", "commit", "release"), 1),
    ],
)
async def test_a_store_that_hangs(
    on_store: Callable[[HungStore], Kernel], clock: VirtualClock, hangs: tuple[str, ...], graces: int
) -> None:
    """The run ends at its deadline; only what is needed to write that down gets a grace on top."""
    store = HungStore(*hangs)

    with pytest.raises(RunTimeoutError):
        await on_store(store).run(three_steps(clock), timeout=5)

    assert 5 <= clock.monotonic() <= 5 + graces * GRACE
    assert store.done == []


async def test_a_store_that_hangs_later(on_store: Callable[[HungStore], Kernel], clock: VirtualClock) -> None:
    """What was committed before stays."""
    store = HungStore("commit", commits=2)

    with pytest.raises(RunTimeoutError):
        await on_store(store).run(three_steps(clock), timeout=10)

    assert [(commit.state, commit.status) for commit in store.done] == [
        ("b", RunStatus.RUNNING),
        ("c", RunStatus.RUNNING),
    ]
    assert clock.monotonic() <= 10 + GRACE


async def test_a_store_that_swallows_the_cancellation(
    on_store: Callable[[HungStore], Kernel], clock: VirtualClock
) -> None:
    """The run ends without it: what can neither be done nor stopped is left behind."""
    store = HungStore("commit", "load", stubborn=True)

    with pytest.raises(RunTimeoutError):
        await on_store(store).run(three_steps(clock), timeout=5)

    assert clock.monotonic() <= 5 + 4 * GRACE
    store.let_go.set()


async def test_a_started_run_on_a_store_that_hangs(
    on_store: Callable[[HungStore], Kernel], clock: VirtualClock
) -> None:
    """The same for a run in the background, and for who waits for it."""
    store = HungStore("commit")

    handle = await on_store(store).start(three_steps(clock), timeout=5)
    with pytest.raises(RunTimeoutError):
        await handle.result()

    assert clock.monotonic() <= 5 + GRACE
    assert handle.status().status is RunStatus.FAILED


async def test_cancelling_a_run_on_a_store_that_hangs(
    on_store: Callable[[HungStore], Kernel], clock: VirtualClock
) -> None:
    """Nor can the store hold up a cancellation, or the kernel's end."""
    store = HungStore("commit", "load", "release")
    kernel = on_store(store)

    one = await kernel.start(three_steps(clock))
    await clock.sleep(3)
    await one.cancel()
    assert clock.monotonic() <= 3 + 2 * GRACE
    two, began = await kernel.start(three_steps(clock)), clock.monotonic()
    await clock.sleep(3)
    await kernel.close()
    assert clock.monotonic() <= began + 3 + 2 * GRACE
    assert (one.status().status, two.status().status) == (RunStatus.CANCELLED, RunStatus.INTERRUPTED)


async def test_a_batch_on_a_store_that_hangs(on_store: Callable[[HungStore], Kernel], clock: VirtualClock) -> None:
    """Runs of a batch are not kept in the store: they have nothing to do with it."""
    batch = ConcurrentWorkflow(three_steps(clock), kernel=on_store(HungStore("commit", "load", "create")))
    _, status = await batch.execute_concurrent([{}, {}], WaitStrategy.duration(50))

    assert (status.completed, status.duration) == (2, 3)


# several at once


async def test_each_run_has_its_own_deadline(kernel: Kernel, clock: VirtualClock) -> None:
    """Side by side, also where one timer fires amid the others' steps."""

    async def work(store: Any) -> str:
        await clock.sleep(0.3)
        return "start"

    async def run(seconds: float) -> float:
        await out_of_time(kernel, flow_of(work), seconds)
        return clock.monotonic()

    seconds = [number + 0.1 for number in range(1, 20)]
    assert await asyncio.gather(*map(run, seconds)) == seconds


async def test_a_timeout_around_a_child_is_a_timeout(kernel: Kernel, clock: VirtualClock) -> None:
    """An attempt of a sub-workflow that takes too long is retried, and fails like any task's."""
    begun: list[float] = []

    async def long(store: Any) -> str:
        begun.append(clock.monotonic())
        await clock.sleep(3600)
        return "end"

    class Once:
        def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
            return 1 if attempt == 1 else None

    child: SubWorkflow[str] = SubWorkflow(flow_of(long), then="end", config=TaskConfig(timeout=5, retry=Once()))
    parent = Workflow("start").register("start", child).add_exit_state("end")
    results, _ = await ConcurrentWorkflow(parent, kernel=kernel).execute_concurrent([{}])

    assert begun == [0, 6]
    assert isinstance(results[0], Failed)
    assert isinstance(results[0].error, RetryExhaustedError)
    assert isinstance(results[0].error.__cause__, StepTimeoutError)
