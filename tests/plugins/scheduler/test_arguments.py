"""Whatever is wrong with a schedule is said when it is added, by the name of the field."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from cano import ConfigurationError, Kernel, SchedulerError, ValidationError, WaitStrategy, Workflow
from cano_scheduler import Scheduler

from tests.plugins.scheduler.conftest import Diary, MakeKernel


@pytest.mark.parametrize(
    ("field", "add"),
    [
        ("id", lambda s, f: s.every("", f, 1)),
        ("id", lambda s, f: s.every("a@b", f, 1)),
        ("id", lambda s, f: s.every(" a", f, 1)),
        ("id", lambda s, f: s.every(1, f, 1)),
        ("flow", lambda s, f: s.every("a", "flow", 1)),
        ("interval", lambda s, f: s.every("a", f, 0)),
        ("interval", lambda s, f: s.every("a", f, -1)),
        ("interval", lambda s, f: s.every("a", f, float("nan"))),
        ("interval", lambda s, f: s.every("a", f, float("inf"))),
        ("interval", lambda s, f: s.every("a", f, True)),
        ("interval", lambda s, f: s.every("a", f, "1s")),
        ("first", lambda s, f: s.every("a", f, 1, first=-1)),
        ("first", lambda s, f: s.every("a", f, 1, first=datetime(2026, 1, 1))),
        ("when", lambda s, f: s.at("a", f, datetime(2026, 1, 1))),
        ("when", lambda s, f: s.at("a", f, "tomorrow")),
        ("event", lambda s, f: s.on("a", f, "")),
        ("expr", lambda s, f: s.cron("a", f, "* * *")),
        ("tz", lambda s, f: s.cron("a", f, "* * * * *", tz="Nowhere")),
        ("data", lambda s, f: s.manual("a", f, data=[1])),
        ("data", lambda s, f: s.manual("a", f, data={1: 2})),
        ("instances", lambda s, f: s.manual("a", f, instances=0)),
        ("instances", lambda s, f: s.manual("a", f, instances=[])),
        (r"instances\[1\]", lambda s, f: s.manual("a", f, instances=[{}, 3])),
        ("wait", lambda s, f: s.manual("a", f, wait=WaitStrategy.forever())),
        ("wait", lambda s, f: s.manual("a", f, instances=2, wait=2)),
        ("wait", lambda s, f: s.manual("a", f, instances=2, wait=WaitStrategy.quota(3))),
        ("jitter", lambda s, f: s.manual("a", f, jitter=-1)),
        ("grace", lambda s, f: s.manual("a", f, grace="1")),
        ("misfire", lambda s, f: s.manual("a", f, misfire="never")),
        ("limit must be", lambda s, f: s.manual("a", f, limit=0)),
        ("limit= is how many missed times", lambda s, f: s.manual("a", f, limit=2)),
        (
            r"limit= .* Workflow\(limit=\) for the runs of a batch",
            lambda s, f: s.every("a", f, 1, instances=9, limit=2),
        ),
        ("overlap", lambda s, f: s.manual("a", f, overlap="block")),
        ("overlap_limit", lambda s, f: s.manual("a", f, overlap_limit=0)),
        ("timeout", lambda s, f: s.manual("a", f, timeout=0)),
        ("backoff", lambda s, f: s.manual("a", f, backoff=-1)),
        ("backoff", lambda s, f: s.manual("a", f, backoff="long")),
        ("trip_after", lambda s, f: s.manual("a", f, trip_after=0)),
        ("unknown option.* colour", lambda s, f: s.manual("a", f, colour="red")),
    ],
)
async def test_a_wrong_argument_is_named(
    kernel: Kernel, diary: Diary, field: str, add: Callable[[Any, Any], object]
) -> None:
    """At add time, and nothing is added."""
    scheduler = Scheduler(kernel)
    with pytest.raises(ConfigurationError, match=f"^{field}"):
        add(scheduler, diary.flow())
    assert scheduler.ids() == ()


async def test_an_id_is_given_once(kernel: Kernel, diary: Diary) -> None:
    """A second schedule of one id is an error, unless it is to replace the first."""
    scheduler = Scheduler(kernel).manual("a", diary.flow())
    with pytest.raises(SchedulerError, match=r"^id='a'.*replace=True"):
        scheduler.every("a", diary.flow(), 1)
    scheduler.every("a", diary.flow(), 1, replace=True)
    assert (await scheduler.status("a")).kind == "every"


async def test_a_wrong_workflow_is_refused(kernel: Kernel) -> None:
    """Every problem of it is told when it is added."""
    flow: Workflow[str] = Workflow("nowhere", name="broken")
    with pytest.raises(ValidationError, match="broken"):
        Scheduler(kernel).manual("a", flow)


async def test_data_that_cannot_be_stored_are_refused(make_kernel: MakeKernel, diary: Diary) -> None:
    """At add time where the kernel is open; else before anything fires. Data of triggers and events too."""
    wrong = {"fine": 1, "socket": object()}
    unopened = Scheduler(make_kernel()).every("a", diary.flow(), 1, data=wrong)
    with pytest.raises(ConfigurationError, match="data of schedule 'a' cannot be stored"):
        await unopened.start()
    async with make_kernel() as kernel, Scheduler(kernel) as scheduler:
        with pytest.raises(ConfigurationError, match="data of schedule 'a' cannot be stored"):
            scheduler.every("a", diary.flow(), 1, data=wrong)
        scheduler.manual("m", diary.flow()).on("o", diary.flow(), "e")
        with pytest.raises(ConfigurationError, match="data cannot be stored"):
            await scheduler.trigger("m", wrong)
        with pytest.raises(ConfigurationError, match="data cannot be stored"):
            await scheduler.emit("e", wrong)
    assert diary.runs == []


@pytest.mark.parametrize("options", [{"grace": -1}, {"poll": 0}, {"stop_timeout": "1"}, {"keep_ticks": 0}])
def test_the_schedulers_own_options_are_checked(options: dict[str, Any]) -> None:
    """By name."""
    (name,) = options
    with pytest.raises(ConfigurationError, match=f"^{name}"):
        Scheduler(Kernel(discover=False), **options)


def test_it_needs_a_kernel() -> None:
    """Not a URL."""
    store: Any = "memory://"
    with pytest.raises(ConfigurationError, match=r"^kernel"):
        Scheduler(store)
