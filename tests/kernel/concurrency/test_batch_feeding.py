"""`ConcurrentWorkflow`: limits, and stores that come from iterators."""

from __future__ import annotations

import asyncio
import gc
import itertools
import traceback
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
from cano import (
    Cancelled,
    ConcurrentWorkflow,
    Failed,
    JoinConfig,
    JoinError,
    JoinStrategy,
    Kernel,
    Success,
    WaitStrategy,
    Workflow,
    WorkflowError,
)
from cano.concurrency.batch import BREATH
from cano.testing import VirtualClock


class Item:
    """A store that is told when it is gone."""

    alive: ClassVar[weakref.WeakSet[Item]] = weakref.WeakSet()

    def __init__(self, number: int) -> None:
        self.number = number
        self.alive.add(self)


class Gauge:
    """Counts how many are at work, and how many there were at most."""

    def __init__(self, clock: VirtualClock, lasts: Callable[[int], float] = lambda number: 1) -> None:
        self.clock = clock
        self.lasts = lasts
        self.now = self.peak = self.done = 0
        self.most_alive = 0

    async def work(self, store: Any) -> str:
        """Be one more for a while."""
        self.now += 1
        self.peak = max(self.peak, self.now)
        self.most_alive = max(self.most_alive, len(Item.alive))
        await self.clock.sleep(self.lasts(store.number))
        self.now -= 1
        self.done += 1
        return "end"

    def flow(self) -> Workflow[str]:
        """A workflow of one such task."""
        return Workflow("start").register("start", self.work).add_exit_state("end")


def plain(count: int) -> Iterator[Item]:
    """Items, one at a time."""
    for number in range(count):
        yield Item(number)


async def slow(count: int) -> AsyncIterator[Item]:
    """Items, one at a time, each after a turn of the event loop."""
    for number in range(count):
        await asyncio.sleep(0)
        yield Item(number)


SOURCES = [pytest.param(plain, id="iterator"), pytest.param(slow, id="async iterator")]


@pytest.mark.parametrize("limit", [1, 2, 5, 50])
@pytest.mark.parametrize("make", [*SOURCES, pytest.param(lambda count: list(plain(count)), id="list")])
async def test_the_measured_peak_is_the_limit(
    kernel: Kernel, clock: VirtualClock, make: Callable[[int], Any], limit: int
) -> None:
    """Never more, never fewer while there is work, and everything is done."""
    gauge = Gauge(clock, lambda number: 1 + number % 7)

    results, status = await ConcurrentWorkflow(gauge.flow(), limit=limit, kernel=kernel).execute_concurrent(make(200))

    assert gauge.peak == limit
    assert gauge.done == 200
    assert results == [Success("end")] * 200
    assert (status.total_workflows, status.completed, status.ended_by) == (200, 200, "all")


async def test_limit_one_takes_them_one_after_the_other(kernel: Kernel, clock: VirtualClock) -> None:
    """The time is the sum of the runs' times; without a limit it is that of the longest."""
    for limit, seconds in ((1, 10), (2, 6), (None, 4), (9, 4)):
        gauge, began = Gauge(clock, lambda number: number + 1), clock.monotonic()
        await ConcurrentWorkflow(gauge.flow(), limit=limit, kernel=kernel).execute_concurrent(plain(4))
        assert clock.monotonic() - began == seconds


@pytest.mark.parametrize("wait", [WaitStrategy.quota(1), WaitStrategy.quota_or_duration(1, 60)])
@pytest.mark.parametrize("make", [lambda: map(Item, itertools.count()), lambda: list(plain(10_000))])
async def test_a_batch_without_a_limit_stops_at_its_quota(
    kernel: Kernel, make: Callable[[], Any], wait: WaitStrategy
) -> None:
    """Runs that never wait end while stores are still read: an endless iterator, or a long list, is not read on."""
    ran = 0

    async def work(store: Any) -> str:
        nonlocal ran
        ran += 1
        return "end"

    flow = Workflow("start").register("start", work).add_exit_state("end")
    _, status = await ConcurrentWorkflow(flow, kernel=kernel).execute_concurrent(make(), wait)

    assert status.ended_by == "quota"
    assert 1 <= status.completed <= ran <= 10 * BREATH


async def test_a_batch_without_a_limit_stops_after_its_duration() -> None:
    """Time passes while an endless iterator is read, although its runs never wait."""
    flow = Workflow("start").add_exit_state("end")

    @flow.on("start")
    async def work(store: Any) -> str:
        return "end"

    async with Kernel(discover=False) as kernel:  # in real time: virtual time passes only while all runs wait
        batch = ConcurrentWorkflow(flow, kernel=kernel)
        _, status = await batch.execute_concurrent(map(Item, itertools.count()), WaitStrategy.duration(0.02))

    assert status.ended_by == "duration"


@contextmanager
def no_help_from_the_collector() -> Iterator[None]:
    """Garbage in cycles stays, so that it is seen."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.parametrize("limit", [1, 5])
@pytest.mark.parametrize("make", SOURCES)
async def test_stores_of_an_iterator_live_as_long_as_their_run(
    kernel: Kernel, clock: VirtualClock, make: Callable[[int], Any], limit: int
) -> None:
    """Of 2,000 items never more than `limit` are alive while any of them is at work."""
    gauge = Gauge(clock)
    with no_help_from_the_collector():
        await ConcurrentWorkflow(gauge.flow(), limit=limit, kernel=kernel).execute_concurrent(make(2000))

        assert gauge.done == 2000
        assert gauge.most_alive == limit
        assert len(Item.alive) == 0


@pytest.mark.parametrize("how", ["task", "split"])
async def test_stores_of_failed_runs_are_not_kept_by_their_errors(
    kernel: Kernel, clock: VirtualClock, how: str
) -> None:
    """A traceback tells where a run failed, but does not hold its store for as long as the results are kept."""

    async def work(store: Any) -> str:
        most_alive.append(len(Item.alive))
        await clock.sleep(1)
        try:
            raise OSError(store.number)
        except OSError as error:
            raise ExceptionGroup("both", [error, ValueError()]) from error

    most_alive: list[int] = []
    flow = Workflow("start").add_exit_state("end")
    if how == "split":
        flow.register_split("start", [work, work], JoinConfig(JoinStrategy.all(), "end"))
    else:
        flow.register("start", work)
    with no_help_from_the_collector():
        results, _ = await ConcurrentWorkflow(flow, limit=2, kernel=kernel).execute_concurrent(plain(200))

        assert max(most_alive) <= 3
        assert len(Item.alive) == 0
    assert all(isinstance(result, Failed) for result in results)
    assert isinstance(results[7], Failed)
    assert "raise OSError(store.number)" in "".join(traceback.format_exception(results[7].error))


async def test_errors_on_stores_in_a_list_keep_their_variables(kernel: Kernel) -> None:
    """Whoever made the list keeps the stores anyway; a debugger shows what the failed task had at hand."""

    async def work(store: Any) -> str:
        clue = store.number * 2
        raise OSError(clue)

    flow = Workflow("start").register("start", work).add_exit_state("end")
    results, _ = await ConcurrentWorkflow(flow, kernel=kernel).execute_concurrent([Item(21)])

    assert isinstance(results[0], Failed)
    cause = results[0].error.__cause__
    assert cause is not None
    frames = [frame for frame, _ in traceback.walk_tb(cause.__traceback__)]
    assert frames[-1].f_locals["clue"] == 42


@pytest.mark.parametrize("make", SOURCES)
async def test_an_iterator_is_pulled_as_runs_begin(
    kernel: Kernel, clock: VirtualClock, make: Callable[[int], Any]
) -> None:
    """An endless one works, with a limit and a wait that ends."""
    gauge = Gauge(clock)

    results, status = await ConcurrentWorkflow(gauge.flow(), limit=3, kernel=kernel).execute_concurrent(
        make(10**9), WaitStrategy.quota(10)
    )

    assert results.count(Success("end")) == status.completed
    assert 10 <= status.completed <= 12  # three at a time end in one moment
    assert len(results) == status.total_workflows <= 15
    assert status.ended_by == "quota"
    assert gauge.peak == 3


class Hostile(Exception):
    """An exception whose own code raises."""

    @property
    def __cause__(self) -> Any:  # type: ignore[override]
        raise ZeroDivisionError


@pytest.mark.parametrize("error", [JoinError("two of three are down"), Hostile()], ids=["split", "hostile"])
async def test_any_error_is_the_result_of_its_run(kernel: Kernel, error: Exception) -> None:
    """Of an iterator's stores, errors are kept without local variables, whatever the errors are made of."""

    async def work(store: Any) -> str:
        raise error

    flow = Workflow("start").register("start", work).add_exit_state("end")
    results, status = await ConcurrentWorkflow(flow, kernel=kernel).execute_concurrent(plain(1))

    assert status.failed == len(results) == 1


async def test_a_duration_over_an_endless_iterator(kernel: Kernel, clock: VirtualClock) -> None:
    """What was begun is cancelled; what was not pulled is not counted."""
    gauge = Gauge(clock, lambda number: 1)

    results, status = await ConcurrentWorkflow(gauge.flow(), limit=2, kernel=kernel).execute_concurrent(
        map(Item, itertools.count()), WaitStrategy.duration(2.5)
    )

    assert results == [Success("end")] * 4 + [Cancelled()] * 2
    assert (status.duration, status.cancelled, status.ended_by) == (2.5, 2, "duration")


async def test_never_begun_is_cancelled(kernel: Kernel, clock: VirtualClock) -> None:
    """Of a list every store has a result, also those whose turn never came."""
    gauge = Gauge(clock)

    results, status = await ConcurrentWorkflow(gauge.flow(), limit=2, kernel=kernel).execute_concurrent(
        list(plain(7)), WaitStrategy.duration(1.5)
    )

    assert results == [Success("end")] * 2 + [Cancelled()] * 5
    assert (status.total_workflows, status.cancelled, status.is_complete) == (7, 5, True)
    assert gauge.done == 2


async def test_a_slow_source_does_not_hold_up_results(kernel: Kernel, clock: VirtualClock) -> None:
    """Runs go on while the iterator makes the next store, and the quota ends the wait for it."""

    async def source() -> AsyncIterator[Item]:
        yield Item(0)
        yield Item(1)
        await clock.sleep(1000)
        yield Item(2)

    gauge = Gauge(clock)
    results, status = await ConcurrentWorkflow(gauge.flow(), kernel=kernel).execute_concurrent(
        source(), WaitStrategy.quota(2)
    )

    assert results == [Success("end")] * 2
    assert clock.monotonic() == status.duration == 1


@pytest.mark.parametrize("make", SOURCES)
@pytest.mark.parametrize("wait", [WaitStrategy.quota(4), WaitStrategy.quota_or_duration(4, 100)])
async def test_a_quota_that_the_iterator_cannot_meet(
    kernel: Kernel, clock: VirtualClock, make: Callable[[int], Any], wait: WaitStrategy
) -> None:
    """It is seen as soon as the iterator ends: nobody waits for the runs that are under way."""
    gauge = Gauge(clock, lambda number: 50)

    results, status = await ConcurrentWorkflow(gauge.flow(), kernel=kernel).execute_concurrent(make(3), wait)

    assert results == [Cancelled()] * 3
    assert status.ended_by == "quota unreachable"
    assert clock.monotonic() == 0


async def test_an_iterator_of_nothing(kernel: Kernel, clock: VirtualClock) -> None:
    """No store, no result; a quota over nothing is not met."""
    batch = ConcurrentWorkflow(Gauge(clock).flow(), limit=2, kernel=kernel)

    for make in (plain, slow):
        results, status = await batch.execute_concurrent(make(0))
        assert (results, status.total_workflows, status.ended_by) == ([], 0, "all")
        _, status = await batch.execute_concurrent(make(0), WaitStrategy.quota(1))
        assert status.ended_by == "quota unreachable"


@pytest.mark.parametrize("error", [OSError("the file ends here"), asyncio.CancelledError("within")], ids=repr)
@pytest.mark.parametrize("limit", [None, 2])
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_an_iterator_that_raises_ends_the_batch(
    kernel: Kernel, clock: VirtualClock, error: BaseException, limit: int | None, asynchronous: bool
) -> None:
    """Its error reaches the caller, after the runs were cancelled and awaited. A CancelledError is one, too."""
    ended: list[int] = []

    async def work(store: Any) -> str:
        try:
            await clock.sleep(10 if store.number else 1)
        finally:
            ended.append(store.number)
        return "end"

    def source() -> Iterator[Item]:
        yield from plain(2)
        raise error

    async def from_afar() -> AsyncIterator[Item]:
        for item in source():
            yield item

    flow = Workflow("start").register("start", work).add_exit_state("end")
    with pytest.raises((OSError, WorkflowError)) as caught:
        await ConcurrentWorkflow(flow, limit=limit, kernel=kernel).execute_concurrent(
            from_afar() if asynchronous else source()
        )

    assert (
        isinstance(caught.value, WorkflowError) if isinstance(error, asyncio.CancelledError) else caught.value is error
    )
    assert kernel.active == {}
    # with a limit of 2 the third store is not asked for before one of the two runs has ended
    assert clock.monotonic() == (0 if limit is None else 1)
    assert ended == [0, 1]


@pytest.mark.parametrize("how", ["quota", "duration", "cancelled", "all"])
async def test_an_async_generator_is_closed(kernel: Kernel, clock: VirtualClock, how: str) -> None:
    """What it holds is given back before the call returns, however the wait ends, and not by a stray task later."""
    closed: list[float] = []

    async def source() -> AsyncIterator[Item]:
        try:
            for number in range(5 if how == "all" else 10**6):
                yield Item(number)
        finally:
            await asyncio.sleep(0)
            closed.append(clock.monotonic())

    waits = {"quota": WaitStrategy.quota(3), "duration": WaitStrategy.duration(2.5)}
    stores = source()
    batch = ConcurrentWorkflow(Gauge(clock).flow(), limit=1, kernel=kernel)
    caller = asyncio.create_task(batch.execute_concurrent(stores, waits.get(how)))
    if how == "cancelled":
        await clock.sleep(1.5)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
    else:
        await caller

    assert closed == [{"quota": 3, "duration": 2.5, "cancelled": 1.5, "all": 5}[how]]


async def test_failures_do_not_stop_the_feeding(kernel: Kernel, clock: VirtualClock) -> None:
    """A failed run makes room like any other."""

    async def work(store: Any) -> str:
        await clock.sleep(1)
        if store.number % 2:
            raise OSError(store.number)
        return "end"

    flow = Workflow("start").register("start", work).add_exit_state("end")
    results, status = await ConcurrentWorkflow(flow, limit=2, kernel=kernel).execute_concurrent(slow(9))

    assert [isinstance(result, Failed) for result in results] == [bool(number % 2) for number in range(9)]
    assert (status.completed, status.failed) == (5, 4)


async def test_total_is_what_was_pulled(kernel: Kernel, clock: VirtualClock) -> None:
    """While the iterator goes on nobody knows how many there will be; `running` are those that were begun."""
    seen: list[tuple[int, int, int]] = []
    batch = ConcurrentWorkflow(
        Gauge(clock).flow(),
        limit=2,
        kernel=kernel,
        progress=lambda status: seen.append((status.total_workflows, status.completed, status.running)),
    )

    await batch.execute_concurrent(plain(4))

    assert seen == [(2, 1, 1), (2, 2, 0), (4, 3, 1), (4, 4, 0)]


async def test_ten_thousand_at_once(kernel: Kernel, clock: VirtualClock) -> None:
    """A batch without a limit has them all in flight, and its results in order."""
    gauge = Gauge(clock, lambda number: 1 + number % 3)

    results, status = await ConcurrentWorkflow(gauge.flow(), kernel=kernel).execute_concurrent(plain(10_000))

    assert gauge.peak == gauge.done == len(results) == status.completed == 10_000
    assert clock.monotonic() == 3
