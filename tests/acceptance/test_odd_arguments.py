"""Odd arguments at every public door: a door takes a value, or raises a `CanoError`, and then nothing is stored."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cano import (
    CanoError,
    ConcurrentWorkflow,
    JoinConfig,
    JoinStrategy,
    Kernel,
    Key,
    Limit,
    ReadKey,
    Retention,
    RunHandle,
    SubWorkflow,
    TaskConfig,
    WaitStrategy,
    Workflow,
    sleep_until,
    wait_for,
)
from cano_encryption import EncryptionKey
from cano_memory import MemoryBackend, MemoryStore
from cano_postgres import PostgresBackend
from cano_redis import RedisBackend
from cano_retry import Exponential, Fixed, RetryBudget
from cano_scheduler import Scheduler
from cano_sqlite import SqliteBackend

LATE = datetime(9999, 12, 31, tzinfo=timezone(-timedelta(hours=14)))
EARLY = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ODD: list[Any] = [
    math.nan, math.inf, -math.inf, -1, 0, 1, 5, 0.5, 10**12, 10**30, -(10**30), 10**400, "", " ", "\0", "a\0b",
    "\ud800", "x" * 5_000, "done", None, True, False, b"x", [], {}, {"a": 1}, (), object(), int,
    timedelta(days=10**8), datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC), EARLY, LATE,
]  # fmt: skip
"""Also what is right somewhere: which values a door takes is not tested here."""


async def go(store: Any) -> str:
    """A task."""
    return "end"


def flow(**options: Any) -> Workflow[str]:
    """A workflow of one step."""
    return Workflow("start", name="one", **options).add_exit_state("end").register("start", go)


FLOW = flow()
IDLE = Kernel(discover=False, plugins=["memory"])  # it executes nothing


def returning(make: Callable[[Any], Any]) -> Callable[[Kernel, Any], Any]:
    """A door that a task uses: a run returns what it makes, so that the store must keep that."""

    async def door(kernel: Kernel, odd: Any) -> None:
        made = make(odd)

        async def task(store: Any) -> Any:
            return made

        waiting = Workflow("start", name="waits").add_exit_state("end").register("start", task)
        handle = await kernel.start(waiting, {})
        await handle._run.ended()
        assert (await kernel.explain(handle.run_id)).detail is not None
        await kernel.cancel(handle.run_id)
        await kernel.delete(handle.run_id)

    return door


async def ended(starting: Awaitable[RunHandle]) -> None:
    """Await the end of the run, which would otherwise change the store while the test looks."""
    await (await starting).result()


RUNS: dict[str, Callable[[Kernel, Any], Any]] = {
    "run_id": lambda kernel, odd: kernel.run(FLOW, {}, run_id=odd),
    "run timeout": lambda kernel, odd: kernel.run(FLOW, {}, timeout=odd),
    "run data": lambda kernel, odd: kernel.run(FLOW, odd),
    "run key": lambda kernel, odd: kernel.run(FLOW, {odd: 1} if getattr(odd, "__hash__", None) else odd),
    "run flow": lambda kernel, odd: kernel.run(odd, {}),
    "start run_id": lambda kernel, odd: ended(kernel.start(FLOW, {}, run_id=odd)),
    "start keep": lambda kernel, odd: ended(kernel.start(FLOW, {}, keep=odd)),
    "submit run_id": lambda kernel, odd: kernel.submit(FLOW, {}, run_id=odd),
    "submit data": lambda kernel, odd: kernel.submit(FLOW, odd),
    "submit delay": lambda kernel, odd: kernel.submit(FLOW, {}, delay=odd),
    "submit connection": lambda kernel, odd: kernel.submit(FLOW, {}, connection=0 if odd is None else odd),
    "run connection": lambda kernel, odd: kernel.run(FLOW, {}, connection=odd or 0),  # type: ignore[arg-type]
    "submit on_existing": lambda kernel, odd: kernel.submit(FLOW, {}, run_id="r", on_existing=odd),
    "submit_many rows": lambda kernel, odd: kernel.submit_many(FLOW, odd),
    "resume": lambda kernel, odd: kernel.resume(FLOW, odd),
    "resume flow": lambda kernel, odd: kernel.resume(odd, "r"),
    "recover": lambda kernel, odd: kernel.recover(concurrency=odd),
    "recover flow": lambda kernel, odd: kernel.recover(odd),
    "signal run_id": lambda kernel, odd: kernel.signal(odd, "go"),
    "signal name": lambda kernel, odd: kernel.signal("r", odd),
    "signal connection": lambda kernel, odd: kernel.signal("r", "go", connection=0 if odd is None else odd),
    "signal id": lambda kernel, odd: kernel.signal("r", "go", id=odd),
    "cancel": lambda kernel, odd: kernel.cancel(odd),
    "runs workflow": lambda kernel, odd: kernel.runs(workflow=odd),
    "runs status": lambda kernel, odd: kernel.runs(status=odd),
    "runs parent": lambda kernel, odd: kernel.runs(parent=odd),
    "runs limit": lambda kernel, odd: kernel.runs(limit=odd),
    "history": lambda kernel, odd: kernel.history(odd),
    "fork run_id": lambda kernel, odd: kernel.fork(odd, 0, "fork"),
    "fork seq": lambda kernel, odd: kernel.fork("r", odd, "fork"),
    "fork to": lambda kernel, odd: kernel.fork("r", 0, odd),
    "explain": lambda kernel, odd: kernel.explain(odd),
    "delete": lambda kernel, odd: kernel.delete(odd),
    "prune": lambda kernel, odd: kernel.prune(odd),
    "sleep_until": returning(lambda odd: sleep_until(odd, then="end")),
    "wait_for": returning(lambda odd: wait_for(odd, then="end")),
    "wait_for timeout": returning(lambda odd: wait_for("go", then="end", timeout=odd, on_timeout="end")),
}
"""What a kernel is asked, on a store with the run "r"."""

MADE: dict[str, Callable[[Any], Any]] = {
    "wait_for fresh": lambda odd: wait_for("go", then="end", fresh=odd),
    "Workflow name": lambda odd: Workflow("start", name=odd),
    "Workflow start": Workflow,
    "Workflow version": lambda odd: flow(version=odd),
    "Workflow config": lambda odd: flow(default_config=odd),
    "Workflow limit": lambda odd: flow(limit=odd),
    "Workflow limit_key": lambda odd: flow(limit=1, limit_key=odd),
    "Workflow durability": lambda odd: flow(durability=odd),
    "Workflow migrate": lambda odd: flow(migrate=odd),
    "Workflow migrate_from": lambda odd: flow(migrate={}, migrate_from=odd),
    "Workflow types": lambda odd: flow(types=odd),
    "Workflow max_takeovers": lambda odd: flow(max_takeovers=odd),
    "register": lambda odd: Workflow("start").register("start", odd),
    "register state": lambda odd: Workflow("start").register(odd, go),
    "register config": lambda odd: Workflow("start").register("start", go, config=odd),
    "register limit": lambda odd: Workflow("start").register("start", go, limit=odd),
    "add_exit_state": Workflow("start").add_exit_state,
    "add_exit_states": Workflow("start").add_exit_states,
    "TaskConfig retry": lambda odd: TaskConfig(retry=odd),
    "TaskConfig timeout": lambda odd: TaskConfig(timeout=odd),
    "TaskConfig total": lambda odd: TaskConfig(total_timeout=odd),
    "Limit": Limit,
    "Limit key": lambda odd: Limit(1, key=odd),
    "Key": lambda odd: Key(odd, int),
    "Key type": lambda odd: Key("key", odd),
    "ReadKey": lambda odd: ReadKey(odd, int),
    "quorum": JoinStrategy.quorum,
    "percentage": JoinStrategy.percentage,
    "partial": JoinStrategy.partial,
    "JoinConfig strategy": lambda odd: JoinConfig(odd, "end"),
    "JoinConfig timeout": lambda odd: JoinConfig(JoinStrategy.all(), "end", timeout=odd),
    "JoinConfig limit": lambda odd: JoinConfig(JoinStrategy.all(), "end", limit=odd),
    "JoinConfig reducers": lambda odd: JoinConfig(JoinStrategy.all(), "end", reducers=odd),
    "SubWorkflow": lambda odd: SubWorkflow(odd, then="end"),
    "SubWorkflow inputs": lambda odd: SubWorkflow(FLOW, odd, then="end"),
    "SubWorkflow outputs": lambda odd: SubWorkflow(FLOW, outputs=odd, then="end"),
    "ConcurrentWorkflow": ConcurrentWorkflow,
    "ConcurrentWorkflow limit": lambda odd: ConcurrentWorkflow(FLOW, limit=odd),
    "quota": WaitStrategy.quota,
    "duration": WaitStrategy.duration,
    "quota_or_duration": lambda odd: WaitStrategy.quota_or_duration(1, odd),
    "Retention keep_last": lambda odd: Retention(keep_last=odd),
    "Retention max_age": lambda odd: Retention(max_age=odd),
    "Retention on_terminal": lambda odd: Retention(on_terminal=odd),
    "Kernel store": lambda odd: Kernel(store=odd).stores,
    "Kernel executor": lambda odd: Kernel(executor=odd),
    "Kernel plugins": lambda odd: Kernel(plugins=odd),
    "Kernel block": lambda odd: Kernel(block=odd),
    "Kernel clock": lambda odd: Kernel(clock=odd),
    "Kernel lease": lambda odd: Kernel(lease=odd),
    "Kernel poll": lambda odd: Kernel(poll=odd),
    "Kernel grace": lambda odd: Kernel(grace=odd),
    "store_at": lambda odd: IDLE.store_at(odd),
    "MemoryStore get": lambda odd: MemoryStore({"a": 1}).get(odd),
    "MemoryStore get type": lambda odd: MemoryStore({"a": 1}).get("a", odd),
    "MemoryStore put": lambda odd: MemoryStore().put(odd, 1),
    "MemoryStore append": lambda odd: MemoryStore().append(odd, 1),
    "MemoryStore remove": lambda odd: MemoryStore({"a": 1}).remove(odd),
    "MemoryBackend keep": lambda odd: MemoryBackend(keep=odd),
    "SqliteBackend": SqliteBackend,
    "SqliteBackend busy_timeout": lambda odd: SqliteBackend("runs.db", busy_timeout=odd),
    "SqliteBackend snapshot_every": lambda odd: SqliteBackend("runs.db", snapshot_every=odd),
    "SqliteBackend synchronous": lambda odd: SqliteBackend("runs.db", synchronous=odd),
    "PostgresBackend": PostgresBackend,
    "PostgresBackend snapshot_every": lambda odd: PostgresBackend("postgresql://h/d", snapshot_every=odd),
    "PostgresBackend retry_for": lambda odd: PostgresBackend("postgresql://h/d", retry_for=odd),
    "RedisBackend retry_for": lambda odd: RedisBackend(retry_for=odd),
    "RedisBackend timeout": lambda odd: RedisBackend(timeout=odd),
    "Fixed": lambda odd: Fixed(odd, 1),
    "Fixed delay": lambda odd: Fixed(1, odd),
    "Exponential max_retries": lambda odd: Exponential(max_retries=odd),
    "Exponential base_delay": lambda odd: Exponential(base_delay=odd),
    "RetryBudget": lambda odd: RetryBudget(odd, 1),
    "RetryBudget refill": lambda odd: RetryBudget(1, odd),
    "Scheduler grace": lambda odd: Scheduler(IDLE, grace=odd),
    "Scheduler poll": lambda odd: Scheduler(IDLE, poll=odd),
    "Scheduler stop_timeout": lambda odd: Scheduler(IDLE, stop_timeout=odd),
    "cron id": lambda odd: Scheduler(IDLE).cron(odd, FLOW, "* * * * *"),
    "cron flow": lambda odd: Scheduler(IDLE).cron("s", odd, "* * * * *"),
    "cron": lambda odd: Scheduler(IDLE).cron("s", FLOW, odd),
    "cron tz": lambda odd: Scheduler(IDLE).cron("s", FLOW, "* * * * *", tz=odd),
    "every": lambda odd: Scheduler(IDLE).every("s", FLOW, odd),
    "every first": lambda odd: Scheduler(IDLE).every("s", FLOW, 5, first=odd),
    "at": lambda odd: Scheduler(IDLE).at("s", FLOW, odd),
    "on": lambda odd: Scheduler(IDLE).on("s", FLOW, odd),
    "schedule data": lambda odd: Scheduler(IDLE).manual("s", FLOW, data=odd),
    "schedule instances": lambda odd: Scheduler(IDLE).manual("s", FLOW, instances=odd),
    "schedule jitter": lambda odd: Scheduler(IDLE).manual("s", FLOW, jitter=odd),
    "schedule grace": lambda odd: Scheduler(IDLE).manual("s", FLOW, grace=odd),
    "schedule overlap_limit": lambda odd: Scheduler(IDLE).manual("s", FLOW, overlap_limit=odd),
    "schedule limit": lambda odd: Scheduler(IDLE).manual("s", FLOW, misfire="all", limit=odd),
    "schedule timeout": lambda odd: Scheduler(IDLE).manual("s", FLOW, timeout=odd),
    "schedule backoff": lambda odd: Scheduler(IDLE).manual("s", FLOW, backoff=odd),
    "schedule trip_after": lambda odd: Scheduler(IDLE).manual("s", FLOW, trip_after=odd),
    "EncryptionKey id": lambda odd: EncryptionKey(odd, bytes(32)),
    "EncryptionKey secret": lambda odd: EncryptionKey("key", odd),
}
"""What is made, or called, without a store."""


SCHEDULER: dict[str, Callable[[Scheduler, Any], Any]] = {
    "trigger": lambda scheduler, odd: scheduler.trigger(odd),
    "trigger data": lambda scheduler, odd: scheduler.trigger("yearly", odd),
    "emit": lambda scheduler, odd: scheduler.emit(odd),
    "emit data": lambda scheduler, odd: scheduler.emit("event", odd),
    "emit id": lambda scheduler, odd: scheduler.emit("event", {}, id=odd),
    "pause": lambda scheduler, odd: scheduler.pause(odd),
    "resume": lambda scheduler, odd: scheduler.resume(odd),
    "reset": lambda scheduler, odd: scheduler.reset(odd),
    "remove": lambda scheduler, odd: scheduler.remove(odd),
    "status": lambda scheduler, odd: scheduler.status(odd),
    "history": lambda scheduler, odd: scheduler.history(odd),
    "upcoming": lambda scheduler, odd: scheduler.upcoming(odd),
    "upcoming count": lambda scheduler, odd: scheduler.upcoming("yearly", odd),
    "backfill start": lambda scheduler, odd: scheduler.backfill("yearly", odd, NOON),
    "backfill end": lambda scheduler, odd: scheduler.backfill("yearly", NOON, odd),
    "backfill limit": lambda scheduler, odd: scheduler.backfill("yearly", NOON, NOON, limit=odd),
    "stop": lambda scheduler, odd: scheduler.stop(odd),
}
"""What a scheduler is asked."""


def refused(call: Callable[[Any], Any], odd: Any) -> bool:
    """Whether a call raises a CanoError."""
    try:
        call(odd)
    except CanoError:
        return True
    return False


@pytest.mark.parametrize("door", MADE)
def test_what_is_made_of_it(door: str) -> None:
    """It is made, or refused. At least one value is."""
    assert sum(refused(MADE[door], odd) for odd in ODD) > 0


async def stored(kernel: Kernel) -> Any:
    """All that the store keeps, but for leases."""
    runs = await kernel.runs()
    return [(run._replace(token=0, holder=None, expires=None), await kernel.history(run.run_id)) for run in runs]


@pytest.fixture(params=["memory", "sqlite"])
async def kernel(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Kernel]:
    """A kernel on a store with one run."""
    url = f"sqlite:///{tmp_path}/runs.db?synchronous=normal" if request.param == "sqlite" else "memory://?strict=1"
    async with Kernel(store=url, grace=0) as kernel:
        await kernel.run(FLOW, {"a": 1}, run_id="r")
        yield kernel


@pytest.mark.parametrize("door", RUNS)
async def test_what_a_kernel_is_asked(kernel: Kernel, door: str) -> None:
    """It answers, or refuses and changes nothing. Its lists can be read afterwards."""
    some = False
    for odd in ODD:
        before = await stored(kernel)
        try:
            await RUNS[door](kernel, odd)
        except CanoError:
            some = True
            assert await stored(kernel) == before
        if await kernel.runs(workflow="one") == []:  # it was deleted
            await kernel.run(FLOW, {"a": 1}, run_id="r")
    assert some
    assert await kernel.check() == []


@pytest.mark.parametrize("door", SCHEDULER)
async def test_what_a_scheduler_is_asked(kernel: Kernel, door: str) -> None:
    """It answers or refuses."""
    some = False
    scheduler = Scheduler(kernel).every("yearly", FLOW, timedelta(days=365)).on("on", FLOW, "event")
    async with scheduler:
        for odd in ODD:
            if not scheduler.running:
                await scheduler.start()
            try:
                await SCHEDULER[door](scheduler, odd)
            except CanoError:
                some = True
        assert len(await scheduler.list()) == 2
    assert some


@pytest.mark.parametrize("option", [{}, {"jitter": timedelta(days=36_500)}], ids=["plain", "jitter"])
async def test_a_schedule_that_is_taken_can_be_listed(kernel: Kernel, option: Any) -> None:
    """However odd its time is, one schedule does not hide the others."""
    scheduler, taken = Scheduler(kernel), 0
    for number, odd in enumerate([*ODD, datetime(9899, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)]):
        if not refused(lambda odd: scheduler.at(str(number), FLOW, odd, **option), odd):  # noqa: B023
            taken += 1
    assert taken >= 3
    async with scheduler:
        assert len(await scheduler.list()) == taken
