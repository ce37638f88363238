"""What happens to a time that comes while an earlier run is under way."""

from __future__ import annotations

from typing import Any

import pytest
from cano import Kernel
from cano_scheduler import Scheduler

from tests.plugins.scheduler.conftest import Diary


async def outcome(
    kernel: Kernel, diary: Diary, takes: float, seconds: float, **options: Any
) -> tuple[list[tuple[str, str | None]], Scheduler]:
    """What became of an interval of one second whose runs take longer."""
    scheduler = Scheduler(kernel, grace=0.5).every("e", diary.flow(takes=takes), 1, **options)
    await scheduler.start()
    await kernel.clock.sleep(seconds)
    ticks: list[tuple[str, str | None]] = [
        (tick.outcome, tick.reason) for tick in await scheduler.history("e") for _ in range(tick.times)
    ]
    return ticks, scheduler


@pytest.mark.parametrize(
    ("options", "expected", "peak"),
    [
        ({}, [("fired", None), *[("skipped", "overlap")] * 2, ("fired", None)], 1),
        ({"overlap_limit": 2}, [("fired", None)] * 2 + [("skipped", "overlap")] + [("fired", None)], 2),
        ({"overlap": "allow"}, [("fired", None)] * 4, 3),
        (
            {"overlap": "allow", "overlap_limit": 2},
            [("fired", None)] * 2 + [("skipped", "overlap"), ("fired", None)],
            2,
        ),
        ({"overlap": "queue"}, [("fired", None), ("late", "queued")], 1),
        ({"overlap": "queue", "overlap_limit": 1}, [("fired", None), ("skipped", "queue full"), ("late", "queued")], 1),
    ],
)
async def test_overlaps_are_treated_as_the_policy_says(
    kernel: Kernel, diary: Diary, options: dict[str, Any], expected: list[tuple[str, str | None]], peak: int
) -> None:
    """Runs of 2.5 s, due at 0, 1, 2 and 3 s, looked at after 3.2 s."""
    ticks, scheduler = await outcome(kernel, diary, 2.5, 3.2, **options)
    assert ticks == expected
    assert diary.peak == peak
    await scheduler.stop(0)


async def test_replace_cancels_the_run_under_way(kernel: Kernel, diary: Diary) -> None:
    """The old run has ended before the new one begins; it counts as cancelled, not as failed."""
    ticks, scheduler = await outcome(kernel, diary, 2.5, 3.2, overlap="replace")
    assert ticks == [("fired", None)] * 4
    assert (diary.peak, diary.cancelled) == (1, 3)
    info = await scheduler.status("e")
    assert (info.run_count, info.cancelled, info.failures) == (4, 3, 0)
    await scheduler.stop(0)


async def test_a_queue_is_worked_off_in_order(kernel: Kernel, diary: Diary) -> None:
    """Each waiting time gets its run, one at a time."""
    _, scheduler = await outcome(kernel, diary, 1.5, 3.1, overlap="queue")
    assert (await scheduler.status("e")).queued == ("e@2023-11-14T22:13:23Z",)
    await scheduler.pause("e")
    await scheduler.resume("e")
    await kernel.clock.sleep(3)
    assert diary.ids[:4] == [f"e@2023-11-14T22:13:{second}Z" for second in (20, 21, 22, 23)]
    assert diary.peak == 1
    await scheduler.stop(0)


async def test_a_timeout_ends_what_would_block_for_hours(kernel: Kernel, diary: Diary) -> None:
    """A run that hangs is ended by `timeout=`, counts as failed, and the next time fires."""
    ticks, scheduler = await outcome(kernel, diary, 1e6, 3.2, timeout=1.5)
    assert ticks == [("fired", None), ("skipped", "overlap"), ("fired", None), ("skipped", "overlap")]
    info = await scheduler.status("e")
    assert (info.failures, "RunTimeoutError" in str(info.last_error)) == (1, True)
    await scheduler.stop(0)


async def test_times_with_a_gap_between_them_are_told_apart(kernel: Kernel, diary: Diary) -> None:
    """What waits when a schedule is paused is skipped, each time for itself where another one lies between."""
    options: dict[str, Any] = {"overlap": "queue", "overlap_limit": 2}
    _, scheduler = await outcome(kernel, diary, 2.5, 5.2, **options)
    await scheduler.pause("e")
    await kernel.clock.sleep(5)

    ticks = await scheduler.history("e")
    nominal = [(tick.nominal_us or 0) + number * 1_000_000 for tick in ticks for number in range(tick.times)]
    assert len(nominal) == len(set(nominal))
    assert sorted(nominal) == list(range(min(nominal), max(nominal) + 1, 1_000_000))
    assert [tick.times for tick in ticks if tick.reason == "paused"][:2] == [1, 1]
    await scheduler.stop(0)
