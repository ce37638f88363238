"""What the recorder knows of a run while it goes on."""

from __future__ import annotations

import asyncio
import math
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import click
import pytest
from cano import Kernel, TaskConfig, Wait, Workflow, current_step, hookimpl, task
from cano.testing import VirtualClock
from cano_cli.durations import duration
from cano_cli.recorder import Recorder
from cano_cli.times import relative, show_seconds

EPOCH = datetime.fromtimestamp(0).astimezone().isoformat(sep=" ", timespec="seconds")


class Twice:
    """Two retries, each after ten seconds."""

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """See RetryStrategy."""
        return 10.0 if attempt < 3 else None


def flow_of(step: Any) -> Workflow[str]:
    """A workflow of one task, which is retried."""
    flow = Workflow("a", default_config=TaskConfig(retry=Twice()))
    return flow.register("a", task(step)).add_exit_state("b")


async def test_while_it_runs() -> None:
    """A state shows its time, attempts and progress while it runs, and why it is tried again."""
    clock = VirtualClock()
    recorder = Recorder(clock.monotonic)
    seen = []

    async def step(store: Any) -> str:
        current_step().progress(current_step().attempt, 3, "pages")
        seen.append((recorder.table(), recorder.rows["workflow", "a", None].note))
        if current_step().attempt == 1:
            raise OSError("flaky")
        await clock.sleep(5)
        return "b"

    class Watch:
        @hookimpl
        def cano_step_retrying(self, step: Any) -> None:
            seen.append((recorder.table(), recorder.rows["workflow", "a", None].note))

    async with Kernel(plugins=[recorder, Watch()], clock=clock) as kernel:
        await kernel.run(flow_of(step))

    assert seen == [
        ([["a", "step", "running", "1", "0.00 s"]], "[###.......] 33% 1/3 pages"),
        ([["a", "step", "retrying", "1", "0.00 s"]], "retry in 10 s after OSError: flaky"),
        ([["a", "step", "running", "2", "10.00 s"]], "[######....] 67% 2/3 pages"),
    ]
    assert recorder.table() == [["a", "step", "done", "2", "15.00 s"]]
    assert recorder.seconds == 15


@pytest.mark.parametrize(
    ("signal", "until", "what"),
    [
        ("approved", None, " for signal 'approved'"),
        (None, 0.0, f" until {EPOCH} ({relative(0)})"),
        ("approved", 0.0, f" for signal 'approved', until {EPOCH} ({relative(0)})"),
    ],
)
def test_parked(signal: str | None, until: float | None, what: str) -> None:
    """A run that waits does not look as if it hung: it is told what it waits for."""
    told: list[str] = []
    parked: Any = SimpleNamespace(run_id="r1", wait=Wait(then="c", signal=signal, until=until))

    Recorder(report=told.append).cano_run_parked(parked)

    assert told == [f"Parked: run r1 waits{what}, then c; Ctrl-C cancels it"]


async def test_failed_and_cancelled() -> None:
    """A state that fails is failed; one whose run is cancelled is cancelled."""
    clock = VirtualClock(auto=False)

    async def wait(store: Any) -> str:
        await asyncio.Event().wait()
        return "b"

    async def wrong(store: Any) -> Any:
        return "nowhere"

    recorder = Recorder(clock.monotonic)
    async with Kernel(plugins=[recorder], clock=clock) as kernel:
        handle = await kernel.start(flow_of(wait))
        await asyncio.sleep(0)
        await handle.cancel()
    assert recorder.table() == [["a", "wait", "cancelled", "1", "0.00 s"]]

    recorder = Recorder(clock.monotonic)
    async with Kernel(plugins=[recorder], clock=clock) as kernel:
        await asyncio.wait([asyncio.ensure_future(kernel.run(flow_of(wrong)))])
    assert recorder.table() == [["a", "wrong", "failed", "1", "0.00 s"]]


def test_before_the_run() -> None:
    """Before the run has begun there is nothing to tell."""
    recorder = Recorder()

    assert recorder.run is None
    assert recorder.seconds == 0
    assert not recorder.table()
    assert not recorder.as_json()


@pytest.mark.parametrize(
    ("away", "expected"),
    [
        (0, "now"), (0.4, "now"), (-0.4, "now"), (1, "in 1 second"), (-59, "59 seconds ago"), (60, "in 1 minute"),
        (-3599, "1 hour ago"), (3600, "in 1 hour"), (47 * 3600, "in 47 hours"), (48 * 3600, "in 2 days"),
        (-3 * 86_400, "3 days ago"), (400 * 86_400, "in 400 days"), (math.nan, "nan s (not a date)"),
    ],
)  # fmt: skip
def test_relative(away: float, expected: str) -> None:
    """Times near and far are told as people tell them."""
    assert relative(1e9 + away, 1e9) == expected


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("1.5", 1.5), ("90s", 90), ("15m", 900), ("2h30m", 9000), ("2H 30M", 9000), ("7d", 604_800),
     (".5h", 1800), ("1w", 604_800)],
)  # fmt: skip
def test_duration(text: str, seconds: float) -> None:
    """A duration is a number of seconds, or numbers with units."""
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0s", "-1", "1 30", "1h 30", "1x", "d", "1e3", "nan", "inf", "9" * 400])
def test_no_duration(text: str) -> None:
    """Anything else is refused."""
    with pytest.raises(click.BadParameter, match="is not a positive number of seconds, or a duration such as"):
        duration(text)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0.00 s"), (1.234, "1.23 s"), (119.9, "119.90 s"), (120, "0:02:00"), (3 * 3600 + 62.9, "3:01:02")],
)
def test_show_seconds(seconds: float, expected: str) -> None:
    """Durations are readable, short and long ones."""
    assert show_seconds(seconds) == expected
