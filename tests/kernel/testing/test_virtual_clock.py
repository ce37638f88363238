"""`cano.testing.VirtualClock`: time passes at once, in the same order every time. And `SystemClock`, which is real."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

import pytest
from cano import Clock, ConfigurationError, Kernel, StepTimeoutError, SystemClock, TaskConfig, Workflow, current_step
from cano.testing import VirtualClock


async def turns(number: int) -> None:
    """Let the event loop turn."""
    for _ in range(number):
        await asyncio.sleep(0)


@pytest.fixture
def unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop does not show whether callbacks are ready, like uvloop."""
    monkeypatch.setattr("cano.testing.clock._ready", lambda loop: None)


# telling the time


def test_it_is_a_clock() -> None:
    """Both clocks have what the kernel asks of one."""
    assert isinstance(VirtualClock(), Clock)
    assert isinstance(SystemClock(), Clock)


def test_time_begins_where_told() -> None:
    """The wall clock starts at `start`, the other at zero; they go together."""
    clock = VirtualClock(1000.0)

    assert (clock.time(), clock.monotonic()) == (1000.0, 0)


async def test_both_times_move_together() -> None:
    """Seconds are seconds on both."""
    clock = VirtualClock(1000.0)
    await clock.sleep(2.5)

    assert (clock.time(), clock.monotonic()) == (1002.5, 2.5)


def test_the_default_start_is_the_same_every_time() -> None:
    """Tests do not depend on the day they are run."""
    assert VirtualClock().time() == VirtualClock().time() == 1_700_000_000.0


# jumping by itself


async def test_sleeping_takes_no_time() -> None:
    """A year passes at once, exactly."""
    clock, real = VirtualClock(), time.monotonic()
    await clock.sleep(365 * 24 * 3600)

    assert clock.monotonic() == 365 * 24 * 3600
    assert time.monotonic() - real < 60


async def test_sleepers_wake_in_order() -> None:
    """Whoever is due first wakes first, at the very time; of those due together, who fell asleep first."""
    clock = VirtualClock()
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((name, clock.monotonic()))

    await asyncio.gather(sleeper("c", 3), sleeper("a", 1), sleeper("b", 2), sleeper("b again", 2), sleeper("d", 3.5))

    assert woken == [("a", 1), ("b", 2), ("b again", 2), ("c", 3), ("d", 3.5)]


async def test_it_waits_for_everybody_who_has_something_to_do() -> None:
    """Time does not pass while there is work, however many turns that takes."""
    clock = VirtualClock()
    times: set[float] = set()

    async def busy() -> None:
        for _ in range(1000):
            times.add(clock.monotonic())
            await asyncio.sleep(0)

    working = asyncio.create_task(busy())
    await clock.sleep(1)

    assert working.done()
    assert times == {0}


async def test_work_between_two_timers_is_done_in_between() -> None:
    """What a timer sets going is finished before the next jump."""
    clock = VirtualClock()
    times: list[float] = []

    async def step() -> None:
        await turns(50)
        times.append(clock.monotonic())

    async def ticks() -> None:
        for _ in range(3):
            await clock.sleep(1)
            await step()

    await asyncio.gather(ticks(), clock.sleep(2.5))

    assert times == [1, 2, 3]


@pytest.mark.parametrize("seconds", [0, -1, -0.5])
async def test_no_sleep_is_one_turn(seconds: float) -> None:
    """Sleeping for no time lets others run once, and time stands still."""
    clock = VirtualClock()
    others: list[str] = []
    asyncio.get_running_loop().call_soon(others.append, "ran")
    await clock.sleep(seconds)

    assert others == ["ran"]
    assert clock.monotonic() == 0


async def test_a_cancelled_sleep_is_forgotten() -> None:
    """Time does not jump to where nobody waits any more."""
    clock = VirtualClock()
    sleeping = asyncio.create_task(clock.sleep(100))
    await asyncio.sleep(0)
    sleeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleeping
    await clock.sleep(1)

    assert clock.monotonic() == 1


# timers


async def test_timers_run_when_they_are_due() -> None:
    """A callback is called once, when its time has come."""
    clock, called = VirtualClock(), []
    for when in (2, 1, 3):
        clock.call_at(when, lambda when=when: called.append((when, clock.monotonic())))  # type: ignore[misc]
    await clock.sleep(2)

    assert called == [(1, 1), (2, 2)]
    await clock.sleep(10)
    assert called == [(1, 1), (2, 2), (3, 3)]


async def test_timers_of_the_past() -> None:
    """What is due already is called at the next occasion, and time does not run backwards."""
    clock, called = VirtualClock(), []
    await clock.sleep(10)
    clock.call_at(3, lambda: called.append(clock.monotonic()))
    assert called == []
    await clock.sleep(1)

    assert called == [10]
    assert clock.monotonic() == 11


async def test_cancelled_timers() -> None:
    """A cancelled timer is not called; cancelling is harmless afterwards, and twice."""
    clock, called = VirtualClock(), []
    cancelled = clock.call_at(1, lambda: called.append("cancelled"))
    kept = clock.call_at(2, lambda: called.append("kept"))
    cancelled.cancel()
    cancelled.cancel()
    await clock.sleep(3)
    kept.cancel()

    assert called == ["kept"]


async def test_timers_may_make_timers() -> None:
    """A callback may schedule the next one, also for right now."""
    clock, called = VirtualClock(), []

    def tick() -> None:
        called.append(clock.monotonic())
        if len(called) < 4:
            clock.call_at(clock.monotonic() + (len(called) % 2), tick)

    clock.call_at(1, tick)
    await clock.sleep(10)

    assert called == [1, 2, 2, 3]


async def test_a_timer_that_raises_does_not_stop_the_clock() -> None:
    """As in a real event loop, a failing callback is reported, and others are called all the same."""
    clock, called, reported = VirtualClock(), asyncio.Event(), []

    def fail() -> None:
        raise ValueError("broken timer")

    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context["exception"]))
    clock.call_at(1, fail)
    clock.call_at(2, called.set)
    await called.wait()

    assert [str(error) for error in reported] == ["broken timer"]


# moved by hand


async def test_without_auto_time_stands_still() -> None:
    """Nothing but `advance` moves it."""
    clock = VirtualClock(auto=False)
    sleeping = asyncio.create_task(clock.sleep(1))
    await turns(100)

    assert not sleeping.done()
    assert clock.monotonic() == 0
    await clock.advance(1)
    assert sleeping.done()
    assert clock.monotonic() == 1


async def test_advance_stops_at_every_timer() -> None:
    """Each timer on the way runs at its own time, those that it leads to included; what lies beyond does not."""
    clock = VirtualClock(auto=False)
    times: list[float] = []

    async def ticks() -> None:
        while True:
            await clock.sleep(1)
            await turns(5)
            times.append(clock.monotonic())

    ticking = asyncio.create_task(ticks())
    await clock.advance(3.5)
    assert times == [1, 2, 3]
    assert clock.monotonic() == 3.5
    await clock.advance(0.5)
    assert times == [1, 2, 3, 4]
    ticking.cancel()


async def test_advance_by_nothing() -> None:
    """It runs what is due now, and lets others run."""
    clock, called = VirtualClock(auto=False), []
    clock.call_at(0, lambda: called.append(1))
    await clock.advance(0)

    assert (called, clock.monotonic()) == ([1], 0)


async def test_advance_on_an_automatic_clock() -> None:
    """Moving it by hand is possible there too."""
    clock = VirtualClock()
    await clock.advance(5)

    assert clock.monotonic() == 5


async def test_advance_on_an_automatic_clock_with_a_timer_pending() -> None:
    """It stops at its end; what is due later comes afterwards, by itself."""
    clock, seen = VirtualClock(), list[float]()

    async def sleeper(seconds: float) -> None:
        await clock.sleep(seconds)
        seen.append(clock.monotonic())

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:  # of real time: it did not return
        for seconds in (5, 10, 100):
            group.create_task(sleeper(seconds))
        await turns(2)
        await clock.advance(10)
        assert (clock.monotonic(), seen) == (10, [5, 10])
    assert seen == [5, 10, 100]


# loops that show less


@pytest.mark.usefixtures("unseen")
@pytest.mark.parametrize("auto", [True, False])
async def test_on_any_loop_work_goes_first(auto: bool) -> None:
    """It waits for a chain of callbacks, and for a longer one that asks for the time."""
    clock, seen = VirtualClock(auto=auto), list[float]()

    async def busy() -> None:
        await turns(150)
        seen.append(clock.monotonic())
        for _ in range(2000):
            await turns(1)
            clock.time()
        seen.append(clock.monotonic())
        await clock.sleep(5)
        seen.append(clock.monotonic())

    async with asyncio.TaskGroup() as group:
        group.create_task(busy())
        group.create_task(clock.sleep(10))
        await turns(1)
        if not auto:
            await clock.advance(20)
    assert seen == [0, 0, 5]


@pytest.mark.usefixtures("unseen")
async def test_on_any_loop_advance_ends() -> None:
    """Also with a timer pending."""
    clock = VirtualClock()
    sleeper = asyncio.ensure_future(clock.sleep(100))
    await turns(1)
    await clock.advance(30)
    assert clock.monotonic() == 30
    await sleeper
    assert clock.monotonic() == 100


@pytest.mark.parametrize("seconds", [-1, -0.001, math.nan])
async def test_advance_goes_forwards_only(seconds: float) -> None:
    """Time does not run backwards."""
    clock = VirtualClock(auto=False)

    with pytest.raises(ConfigurationError, match="seconds, 0 or more, not"):
        await clock.advance(seconds)
    assert clock.monotonic() == 0


# held


async def test_hold_stops_time() -> None:
    """While something real is at work no time passes by itself; afterwards it does."""
    clock = VirtualClock()
    sleeping = asyncio.create_task(clock.sleep(1))
    with clock.hold():
        await turns(100)
        assert not sleeping.done()
        with clock.hold():
            await turns(100)
        await turns(100)
        assert not sleeping.done()
        assert clock.monotonic() == 0
    await sleeping

    assert clock.monotonic() == 1


async def test_hold_lets_real_things_finish() -> None:
    """A thread that ends while time is held is seen to end before any time has passed."""
    clock = VirtualClock()
    events: list[str] = []

    async def sleeper() -> None:
        await clock.sleep(1)
        events.append("woken")

    sleeping = asyncio.create_task(sleeper())
    with clock.hold():
        await asyncio.to_thread(events.append, "thread")
    await sleeping

    assert events == ["thread", "woken"]


async def test_hold_ends_with_an_error() -> None:
    """Time goes on when the block is left by an exception."""
    clock = VirtualClock()
    with pytest.raises(ZeroDivisionError), clock.hold():
        raise ZeroDivisionError
    await clock.sleep(1)

    assert clock.monotonic() == 1


# event loops


def test_several_loops_one_after_the_other() -> None:
    """The clock goes on where the last loop left it."""
    clock = VirtualClock()

    for number in (1, 2, 3):
        asyncio.run(clock.sleep(5))
        assert clock.monotonic() == 5 * number


def test_a_loop_that_ends_with_timers_pending() -> None:
    """What an ended loop left behind does not keep the next one from sleeping."""
    clock, called = VirtualClock(), []

    async def leave() -> None:
        clock.call_at(3, lambda: called.append(clock.monotonic()))
        task = asyncio.ensure_future(clock.sleep(100))
        await asyncio.sleep(0)
        assert not task.done()

    asyncio.run(leave())
    asyncio.run(clock.sleep(5))

    assert clock.monotonic() == 5
    assert called == [3]


def test_kernels_in_several_loops() -> None:
    """A kernel in virtual time works in one loop after the other."""
    clock = VirtualClock()

    async def work(store: Any) -> str:
        await clock.sleep(2)
        store["at"] = clock.monotonic()
        return "end"

    async def run() -> Any:
        async with Kernel(discover=False, clock=clock) as kernel:
            return (await kernel.run(Workflow("a").register("a", work).add_exit_state("end"))).data

    assert [asyncio.run(run()) for _ in range(3)] == [{"at": 2}, {"at": 4}, {"at": 6}]


async def test_the_same_every_time() -> None:
    """A busy program in virtual time does the same things in the same order, whenever it is run."""

    async def program() -> list[tuple[str, float]]:
        clock = VirtualClock()
        log: list[tuple[str, float]] = []

        class Retry:
            def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
                return 0.7 if attempt < 4 else None

        async def work(store: Any) -> str:
            step = current_step()
            log.append((f"{store['name']} {step.attempt}", clock.monotonic()))
            await clock.sleep(store["name"] / 3 + step.attempt)
            if step.attempt < 3:
                raise OSError
            return "end"

        flow = Workflow("a").register("a", work, config=TaskConfig(retry=Retry(), timeout=4)).add_exit_state("end")
        async with Kernel(discover=False, clock=clock) as kernel:
            runs = (kernel.run(flow, {"name": number}) for number in range(6))
            results = await asyncio.gather(*runs, return_exceptions=True)
        log += [(type(result).__name__, 0) for result in results]
        return log

    first = await program()

    assert len(first) > 20
    assert [await program() for _ in range(3)] == [first] * 3


async def test_hours_of_retries() -> None:
    """What the clock is for: a step that is retried for hours is tested in no time."""
    clock, attempts = VirtualClock(), []

    class Hourly:
        def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
            return 3600.0

    async def work(store: Any) -> str:
        attempts.append(clock.monotonic())
        raise OSError

    config = TaskConfig(retry=Hourly(), total_timeout=24 * 3600)
    async with Kernel(discover=False, clock=clock) as kernel:
        with pytest.raises(StepTimeoutError):
            await kernel.run(Workflow("a").register("a", work, config=config).add_exit_state("end"))

    assert attempts == [3600 * hour for hour in range(24)]


# real time


async def test_the_system_clock_tells_real_time() -> None:
    """It is the operating system's."""
    clock = SystemClock()

    assert abs(clock.time() - time.time()) < 60
    assert abs(clock.monotonic() - time.monotonic()) < 60


async def test_the_system_clock_calls_back() -> None:
    """What is due in the past is called at once, what is cancelled is not."""
    clock, called = SystemClock(), asyncio.Event()
    never = clock.call_at(clock.monotonic() - 1, lambda: pytest.fail("it was cancelled"))
    never.cancel()
    clock.call_at(clock.monotonic() - 1, called.set)
    await called.wait()
    await clock.sleep(0)

    assert called.is_set()
