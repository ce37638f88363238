"""The scheduler's own hooks."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from cano import Kernel, hookimpl
from cano.testing import VirtualClock
from cano_scheduler import Scheduler, Tick, hookspecs

from tests.plugins.scheduler.conftest import Diary, MakeKernel


class Observer:
    """Takes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Tick]] = []

    @hookimpl
    def cano_schedule_fired(self, tick: Tick) -> None:
        """On time."""
        self.told.append(("fired", tick))

    @hookimpl
    def cano_schedule_late(self, tick: Tick) -> None:
        """Late."""
        self.told.append(("late", tick))

    @hookimpl
    def cano_schedule_skipped(self, tick: Tick) -> None:
        """Not at all."""
        self.told.append(("skipped", tick))


async def test_another_plugin_observes_it(diary: Diary, clock: VirtualClock) -> None:
    """Each tick is told once, by the hook of its outcome, in the order of the history."""
    observer = Observer()
    async with Kernel(discover=False, plugins=["scheduler", observer], clock=clock) as kernel:
        scheduler = Scheduler(kernel).every("e", diary.flow(takes=1.5), 1, overlap="queue", overlap_limit=1, grace=0.1)
        async with scheduler:
            await clock.sleep(4.2)
            assert [tick for _, tick in observer.told] == list(await scheduler.history("e"))
    assert {name for name, _ in observer.told} == {"fired", "late", "skipped"}
    assert all(name == tick.outcome for name, tick in observer.told)


async def test_who_decides_tells(make_kernel: MakeKernel, diary: Diary) -> None:
    """With several processes each tick is told in one of them."""
    observers = [Observer(), Observer()]
    async with (
        make_kernel(observers[0]) as one,
        make_kernel(observers[1]) as two,
        Scheduler(one).every("e", diary.flow(), 1) as first,
        Scheduler(two).every("e", diary.flow(), 1),
    ):
        await one.clock.sleep(9.5)
        told = [tick for observer in observers for _, tick in observer.told]
        assert sorted(told, key=lambda tick: tick.decided_us) == list(await first.history("e"))


async def test_an_observer_that_raises_breaks_nothing(
    diary: Diary, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is reported once, and counted."""

    class Broken:
        @hookimpl
        def cano_schedule_fired(self, tick: Tick) -> None:
            raise RuntimeError("broken")

    async with Kernel(discover=False, plugins=["scheduler", Broken()], clock=clock) as kernel:
        async with Scheduler(kernel).every("e", diary.flow(), 1):
            await clock.sleep(2.5)
        assert list(kernel.observer_errors.values()) == [3]
    assert len(diary.runs) == 3
    assert len([record for record in caplog.records if "observer" in record.message]) == 1


async def test_it_works_without_its_plugin_being_loaded(diary: Diary, clock: VirtualClock) -> None:
    """Then there are no hooks, and the schedules run."""
    async with Kernel(discover=False, clock=clock) as kernel, Scheduler(kernel).every("e", diary.flow(), 1):
        await clock.sleep(2.5)
    assert len(diary.runs) == 3


def test_every_hook_is_documented() -> None:
    """One argument, a summary and a description of it."""
    hooks: dict[str, Any] = {name: hook for name, hook in vars(hookspecs).items() if name.startswith("cano_")}
    assert sorted(hooks) == ["cano_schedule_fired", "cano_schedule_late", "cano_schedule_skipped"]
    for hook in hooks.values():
        assert list(inspect.signature(hook).parameters) == ["tick"]
        assert ":param tick:" in hook.__doc__
