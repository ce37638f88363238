"""Looking into a store: lists, time travel, why a run stands still, what is wrong, and what to forget."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cano import (
    ConfigurationError,
    ConflictError,
    Finding,
    FunctionTask,
    HistoryDiscardedError,
    Kernel,
    KeyValueStore,
    Limit,
    Retention,
    RunCancelledError,
    RunFilter,
    RunNotFoundError,
    RunRecord,
    RunResult,
    RunStatus,
    SerializationError,
    Signal,
    Standstill,
    SubWorkflow,
    TaskConfig,
    TaskError,
    Transition,
    Workflow,
    current_step,
    sleep_until,
    wait_for,
)
from cano.testing.contract_base import free_run
from cano_durability.bounds import MANY
from cano_durability.recovery.leases import with_status_at
from cano_durability.selecting import listing

from tests.plugins.durability.conftest import LEASE

if TYPE_CHECKING:
    from tests.plugins.durability.conftest import World


class Flow:
    """Three steps, of which the second does what it is told."""

    def __init__(self) -> None:
        self.does = "nothing"
        self.keys: list[str] = []
        self.gate = asyncio.Event()

    async def one(self, store: Any) -> str:
        """Write."""
        self.keys.append(current_step().idempotency_key)
        store["one"] = store["x"] + 1
        store["old"] = 1
        return "two"

    async def two(self, store: Any) -> Any:
        """Fail, hang, wait, or write."""
        self.keys.append(current_step().idempotency_key)
        if self.does == "fail":
            raise ValueError("no")
        if self.does == "hang":
            await self.gate.wait()
        store["two"] = store["one"] + 1
        del store["old"]
        if self.does == "wait":
            return wait_for("go", then="three", timeout=100, on_timeout="end")
        if self.does == "wait for ever":
            return wait_for("go", then="three")
        return "three"

    async def three(self, store: Any) -> str:
        """Write."""
        self.keys.append(current_step().idempotency_key)
        store["three"] = store["two"] + 1
        return "end"

    def flow(self, name: str = "flow") -> Workflow[Any]:
        """Its workflow."""
        flow: Workflow[Any] = Workflow("one", name=name).register("one", self.one).register("two", self.two)
        return flow.register("three", self.three).add_exit_state("end")

    async def start(self, kernel: Kernel, world: World, run_id: str, does: str = "nothing", name: str = "flow") -> None:
        """Start a run, and let it come as far as it can."""
        self.does = does
        await kernel.start(self.flow(name), {"x": 0}, run_id=run_id)
        await world.settle()


@pytest.fixture
def flow() -> Flow:
    """A flow."""
    return Flow()


END = {"x": 0, "one": 1, "two": 2, "three": 3}


# lists


async def test_runs(kernel: Kernel, world: World, flow: Flow) -> None:
    """Runs are listed newest first, without their data; filters combine; what nobody drives is interrupted."""
    dead = await world.kernel()
    await flow.start(dead, world, "interrupted", "hang")
    await world.crash(dead)
    await world.lapse()
    for run_id, does in [("done", "nothing"), ("failed", "fail"), ("parked", "wait"), ("running", "hang")]:
        await world.clock.advance(1)
        await flow.start(kernel, world, run_id, does)
    await flow.start(kernel, world, "other", "nothing", "another")

    async def ids(**filter: Any) -> list[str]:
        return [run.run_id for run in await kernel.runs(**filter)]

    assert await ids() == ["other", "running", "parked", "failed", "done", "interrupted"]
    assert await ids(workflow="flow") == ["running", "parked", "failed", "done", "interrupted"]
    for status in RunStatus:
        expected = {"succeeded": ["other", "done"], "cancelled": [], "queued": []}.get(status.value, [status.value])
        assert await ids(status=status) == await ids(status=status.value) == expected
    assert await ids(workflow="flow", status="succeeded") == ["done"]
    assert await ids(limit=2) == ["other", "running"]
    assert await ids(status="interrupted", limit=1) == ["interrupted"]
    assert await ids(parent="done") == []
    assert [run.run_id async for run in kernel.runs(limit=1)] == ["other"]
    assert [dict(run.data) for run in await kernel.runs(limit=1)] == [{}]
    with pytest.raises(ValueError, match="asleep"):
        kernel.runs(status="asleep")


@pytest.mark.parametrize("pages", [True, False])
async def test_pages_of_runs(kernel: Kernel, world: World, flow: Flow, pages: bool) -> None:
    """A list can be read page by page, from any store, also for a status that the store does not know."""
    assert kernel.backend is not None
    kernel.backend.capabilities = kernel.backend.capabilities._replace(pages=pages)
    for number in range(5):
        await flow.start(kernel, world, f"r{number}", "hang" if number % 2 else "nothing")
    every = await kernel.runs()
    assert [run.run_id for run in every] == ["r4", "r3", "r2", "r1", "r0"]
    first = await kernel.runs(limit=2)
    assert first == every[:2]
    await kernel.delete("r4")
    assert await kernel.runs(limit=2, after=first[-1]) == every[2:4]
    assert await kernel.runs(after=every[-1]) == []
    running = await kernel.runs(status="running")
    assert [run.run_id for run in await kernel.runs(status="running", limit=3, after=running[0])] == ["r1"]
    assert [run async for run in kernel.runs(status="running")] == running
    with pytest.raises(ConfigurationError, match="after must be a listed run, the cursor of a page, or None"):
        kernel.runs(after=every[0].place)  # type: ignore[arg-type]


async def test_an_iteration_over_runs_reads_pages(
    kernel: Kernel, world: World, flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An iteration asks for the runs after those that it had, as many as are left up to its limit."""
    for number in range(5):
        await flow.start(kernel, world, f"r{number}")
    monkeypatch.setattr("cano.run_filter.PAGE", 2)
    every, asked = await kernel.runs(), list[tuple[int | None, str]]()
    assert kernel.backend is not None
    honest = kernel.backend.runs

    async def runs(filter: RunFilter) -> Sequence[RunRecord]:
        asked.append((filter.limit, filter.after[1] if filter.after else ""))
        return await honest(filter)

    monkeypatch.setattr(kernel.backend, "runs", runs)
    assert [run async for run in kernel.runs()] == every
    assert asked == [(2, ""), (2, "r3"), (2, "r1")]
    asked.clear()
    assert [run async for run in kernel.runs(limit=3)] == every[:3]
    assert asked == [(2, ""), (1, "r3")]


async def test_history(kernel: Kernel, world: World, flow: Flow) -> None:
    """The history shows each transition with its time and what it changed."""
    await flow.start(kernel, world, "r", "hang")
    await world.clock.advance(10)
    flow.gate.set()
    await world.settle()
    lines = await kernel.history("r")
    start = lines[0].at
    assert [(line.seq, line.state, line.at - start) for line in lines] == [
        (0, "one", 0), (1, "two", 0), (2, "three", 10), (3, "end", 10),
    ]  # fmt: skip
    assert [(dict(line.changed), list(line.removed)) for line in lines] == [
        ({"x": 0}, []), ({"one": 1, "old": 1}, []), ({"two": 2}, ["old"]), ({"three": 3}, []),
    ]  # fmt: skip
    with pytest.raises(RunNotFoundError, match="'nobody'"):
        await kernel.history("nobody")


# time travel


async def test_fork(kernel: Kernel, world: World, flow: Flow) -> None:
    """A fork stands where the run stood: the data of that moment, a history of its own, keys of its own."""
    original = await kernel.run(flow.flow(), {"x": 0}, run_id="r")
    for seq in range(4):
        flow.keys.clear()
        assert await kernel.fork("r", seq, f"f{seq}") == f"f{seq}"
        record = await world.look(f"f{seq}")
        assert (record.status, record.holder, record.seq) == (RunStatus.RUNNING, None, seq)
        assert (await kernel.explain(f"f{seq}")).reason is Standstill.INTERRUPTED
        result = await kernel.resume(flow.flow(), f"f{seq}")
        assert result == replace_id(original, f"f{seq}")
        assert flow.keys == [f"f{seq}:{number}" for number in range(seq + 1, 4)]
        assert [line.seq for line in await kernel.history(f"f{seq}")] == [*range(seq, 4)]
        assert (await world.look(f"f{seq}")).status is RunStatus.SUCCEEDED
    assert await kernel.run(flow.flow(), run_id="r") == original
    assert list((await kernel.history("f2"))[0].changed) == ["x", "one", "two"]


async def test_a_fork_reads_a_history_once(
    kernel: Kernel, world: World, flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that has no pages of a history, such as an encrypted one, is asked for the whole history once."""
    monkeypatch.setattr("cano_durability.inspection.forking.AT_ONCE", 1)
    await kernel.run(flow.flow(), {"x": 0}, run_id="r")
    backend, asked = kernel.backend, list[str]()
    assert backend is not None
    honest = backend.history

    async def history(run_id: str) -> Sequence[Transition]:
        asked.append(run_id)
        return await honest(run_id)

    monkeypatch.setattr(backend, "history", history)
    await kernel.fork("r", 2, "paged")
    assert asked == []
    monkeypatch.setattr(backend, "capabilities", backend.capabilities._replace(history_pages=False))
    await kernel.fork("r", 2, "whole")
    assert asked == ["r"]
    paged, whole = await world.look("paged"), await world.look("whole")
    assert (whole.state, whole.seq, whole.data) == (paged.state, paged.seq, paged.data)


def replace_id(result: RunResult, run_id: str) -> RunResult:
    """The same result of another run."""
    return result._replace(run_id=run_id)


@pytest.mark.parametrize("url", ["memory://?strict=1", "sqlite:///{}/runs.db?snapshot_every=5"])
async def test_a_run_without_its_first_entries_is_not_forked(tmp_path: Path, url: str) -> None:
    """The data at a transition is built of all entries before it. One that is missing is not taken for no changes."""
    flow = Workflow("A", name="counting").add_exit_state("B")

    @flow.on("A")
    async def count(store: KeyValueStore) -> str:
        store["n"] = store.get("n", int, default=0) + 1
        return "A" if store["n"] < 40 else "B"

    async with Kernel(store=url.format(tmp_path)) as kernel:
        await kernel.run(flow, {"given": 1}, run_id="r")
        await kernel.fork("r", 25, "f")
        result = await kernel.resume(flow, "f")
        backend: Any = kernel.backend
        for run_id, before in (("r", 30), ("f", 35)):
            await backend.discard_history(run_id, before)
            first = (await kernel.history(run_id))[0].seq
            for seq in (0, first, first + 1, 40, 99):
                with pytest.raises(
                    HistoryDiscardedError, match=f"run {run_id} .* before transition {first} "
                ) as caught:
                    await kernel.fork(run_id, seq, "new")
                assert (caught.value.run_id, caught.value.first) == (run_id, first)
        assert [run.run_id for run in await kernel.runs()] == ["f", "r"]
        again = await kernel.run(flow, {"given": 1}, run_id="f", on_existing="same-data")
        assert again.data == result.data == {"given": 1, "n": 40}


async def test_a_fork_is_recovered_like_any_other_run(kernel: Kernel, flow: Flow) -> None:
    """Nobody drives a fork: `recover` takes it."""
    await kernel.run(flow.flow(), {"x": 0}, run_id="r")
    await kernel.fork("r", 1, "f")
    (handle,) = await kernel.recover(flow.flow())
    assert (await handle.result()).data == END


async def test_fork_of_a_failed_run(kernel: Kernel, flow: Flow) -> None:
    """The fork of a failed run has not failed."""
    flow.does = "fail"
    with pytest.raises(TaskError):
        await kernel.run(flow.flow(), {"x": 0}, run_id="r")
    await kernel.fork("r", 1, "f")
    flow.does = "nothing"
    assert (await kernel.resume(flow.flow(), "f")).data == END


async def test_fork_of_a_parked_run(kernel: Kernel, world: World, flow: Flow) -> None:
    """The fork of a run that waits waits too, for a signal of its own."""
    await flow.start(kernel, world, "r", "wait for ever")
    await kernel.fork("r", 2, "f")
    assert (await kernel.explain("f")).reason is Standstill.WAITING_FOR_SIGNAL
    await kernel.signal("r", "go")
    await world.settle()
    assert (await world.look("f")).status is RunStatus.PARKED
    await kernel.signal("f", "go")
    await world.settle()
    assert (await world.look("f")).status is RunStatus.SUCCEEDED


async def test_forks_that_are_refused(kernel: Kernel, world: World, flow: Flow) -> None:
    """A fork needs a run, one of its transitions, and an id that is free; a refused one changes nothing."""
    await kernel.run(flow.flow(), {"x": 0}, run_id="r")
    with pytest.raises(RunNotFoundError, match="'nobody'"):
        await kernel.fork("nobody", 0, "f")
    with pytest.raises(ConfigurationError, match="run r has no transition 4; there are: 0 to 3"):
        await kernel.fork("r", 4, "f")
    with pytest.raises(ConfigurationError, match="seq must be a whole number, 0 or more, not -1"):
        await kernel.fork("r", -1, "f")
    assert await world.find("f") is None
    await kernel.fork("r", 1, "f")
    before = await world.look("f")
    for seq in (0, 1):
        with pytest.raises(ConfigurationError, match="the run id 'f' is in use"):
            await kernel.fork("r", seq, "f")
    with pytest.raises(ConfigurationError, match="the run id 'r' is in use"):
        await kernel.fork("r", 0, "r")
    assert await world.look("f") == before


# why a run stands still


async def test_explain(kernel: Kernel, world: World, flow: Flow) -> None:
    """Exactly one reason out of a closed list, with its particulars."""
    said: dict[Standstill, str] = {}

    async def ask(run_id: str, asked: Kernel) -> Standstill:
        reason, detail = await asked.explain(run_id)
        said[reason] = detail
        return reason

    dead = await world.kernel()
    await flow.start(dead, world, "dead", "hang")
    await world.crash(dead)
    await world.clock.advance(10)
    other = await world.kernel()
    assert await ask("dead", other) is Standstill.RUNNING_ELSEWHERE
    assert said[Standstill.RUNNING_ELSEWHERE].endswith("; its lease expires in 20.0 s")
    await world.lapse()
    assert await ask("dead", other) is Standstill.INTERRUPTED
    assert said[Standstill.INTERRUPTED] == "in state two"

    await flow.start(kernel, world, "hangs", "hang")
    assert await ask("hangs", kernel) is Standstill.RUNNING_HERE
    await flow.start(kernel, world, "fails", "fail")
    assert await ask("fails", kernel) is Standstill.FAILED
    assert said[Standstill.FAILED].startswith(f"in state two: task 'two' failed: ValueError: no; at {__file__}:")
    await flow.start(kernel, world, "ends")
    assert await ask("ends", kernel) is Standstill.SUCCEEDED
    await kernel.cancel("hangs")
    await world.settle()
    assert await ask("hangs", kernel) is Standstill.CANCELLED

    parking = await world.kernel()
    await flow.start(parking, world, "waits", "wait")
    await flow.start(parking, world, "waits for ever", "wait for ever")
    await parking.close()
    await world.clock.advance(40)
    assert await ask("waits for ever", kernel) is Standstill.WAITING_FOR_SIGNAL
    assert said[Standstill.WAITING_FOR_SIGNAL] == "'go', then three"
    assert await ask("waits", kernel) is Standstill.WAITING_FOR_SIGNAL
    assert said[Standstill.WAITING_FOR_SIGNAL] == "'go', for 60.0 s more, then three, otherwise end"
    looking = await world.kernel()
    await world.store(looking).backend.put_signal("waits for ever", Signal("1", "go"))
    assert await ask("waits for ever", looking) is Standstill.READY
    assert said[Standstill.READY] == "next state three"
    await world.clock.advance(60)
    assert await ask("waits", looking) is Standstill.READY
    assert said[Standstill.READY] == "next state end"
    record = await world.look("waits")
    assert record.wait is not None
    assert str(await looking.explain("waits")) == f"{Standstill.READY.value}: next state end"

    sleeping = Workflow("s", name="sleeps").add_exit_state("end")

    async def sleeps(store: Any) -> Any:
        return sleep_until(world.clock.time() + 50, then="end")

    await kernel.start(sleeping.register("s", sleeps), run_id="sleeps")
    await world.settle()
    assert await ask("sleeps", kernel) is Standstill.WAITING_FOR_TIME
    assert said[Standstill.WAITING_FOR_TIME] == "for 50.0 s more, then end"

    await flow.start(kernel, world, "corrupt", "wait for ever")
    corrupt(kernel, world, "corrupt")
    assert await ask("corrupt", kernel) is Standstill.UNREADABLE
    assert "corrupt" in said[Standstill.UNREADABLE]

    # between the commit that parks or ends a run and the run's leave, a list already has its new status
    for run_id, does, number, why in (
        ("parks", "wait for ever", 2, Standstill.WAITING_FOR_SIGNAL),
        ("has ended", "nothing", 3, Standstill.SUCCEEDED),
    ):
        busy = await world.kernel()
        fault = world.faults(busy).at_call("commit", number, after=True).hang()
        await flow.start(busy, world, run_id, does)
        await fault.reached()
        assert await ask(run_id, busy) is why
        fault.release()
        await world.settle()

    # test_submit.py, test_shared_limits.py, test_lent_slots.py, test_remedies.py, test_children.py and
    # test_parked_parents.py have the others
    assert said.keys() == {*Standstill} - {
        Standstill.WAITING_FOR_LIMIT, Standstill.CHANGED, Standstill.CHILD_FAILED, Standstill.CHILD_CANCELLED,
        Standstill.WAITING_FOR_CHILD, Standstill.WAITING_FOR_INPUTS, Standstill.QUEUED, Standstill.DELAYED,
        Standstill.NO_SLOT, Standstill.RATE,
    }  # fmt: skip
    with pytest.raises(RunNotFoundError, match="'nobody'"):
        await kernel.explain("nobody")


# what is wrong


async def test_check_finds_nothing_in_a_healthy_store(kernel: Kernel, world: World, flow: Flow) -> None:
    """Runs that are running, parked, interrupted or over are no finding."""
    for does in ("nothing", "fail", "wait", "hang"):
        await flow.start(kernel, world, does, does)
    assert await kernel.check() == []
    await kernel.close()
    assert await (await world.kernel()).check() == []


async def test_check_finds_stale_leases(kernel: Kernel, world: World, flow: Flow) -> None:
    """The lease of a dead holder is named, with how long ago it ended."""
    dead = await world.kernel()
    await flow.start(dead, world, "r", "hang")
    holder = (await world.look("r")).holder
    await world.crash(dead)
    await world.clock.advance(45)
    assert await kernel.check() == [Finding("stale lease", "r", f"held by {holder}, expired 15.0 s ago")]


async def test_check_finds_orphans(kernel: Kernel, world: World, flow: Flow) -> None:
    """A child that has not ended though its parent has, or is gone, is an orphan."""
    flow.does = "hang"
    parent = Workflow("call", name="parent").add_exit_state("end")
    parent.register("call", SubWorkflow(flow.flow("child"), {"x": "x"}, then="end"))
    await kernel.start(parent, {"x": 0}, run_id="p")
    await world.settle()
    await kernel.close()
    other = await world.kernel()
    assert await other.check() == []
    await world.store(other).backend.delete("p")
    assert await other.check() == [Finding("orphan", "p:1/child", "its parent p does not exist")]


@dataclass
class Secret:
    """A class that only the workflow's own program knows."""


def corrupt(kernel: Kernel, world: World, run_id: str) -> None:
    """Overwrite a value of transition 2."""
    backend: Any = world.store(kernel).backend
    if world.path is None:
        run = backend._runs[run_id]
        backend._runs[run_id] = run._replace(data={**run.data, "one": b"rubbish"})
    else:
        with sqlite3.connect(world.path) as connection:
            connection.execute(
                "UPDATE journal SET packed = X'00' WHERE run = (SELECT id FROM runs WHERE run_id = ?) AND seq = 2",
                (run_id,),
            )
        connection.close()


async def test_prune_deletes_corrupt_rows(kernel: Kernel, world: World, flow: Flow) -> None:
    """A finished run that cannot be read is deleted like any other."""
    for run_id in ("a", "b", "c"):
        await kernel.run(flow.flow(), {"x": 0}, run_id=run_id)
    corrupt(kernel, world, "b")
    assert await kernel.prune(Retention(on_terminal="delete")) == ["c", "b", "a"]
    assert await kernel.check() == []


async def test_prune_keeps_what_has_no_age(kernel: Kernel, world: World, flow: Flow) -> None:
    """A finished run whose age cannot be read is named by `check`, and kept until it is deleted explicitly."""
    for run_id in ("a", "b"):
        await kernel.run(flow.flow(), {"x": 0}, run_id=run_id)
    backend: Any = world.store(kernel).backend
    if world.path is None:
        listed = {"type": "SerializationError", "message": "the run 'b' cannot be read"}
        backend._runs["b"] = backend._runs["b"]._replace(
            version="", fingerprint="", state="", created=0.0, updated=0.0, error=listed, data={"x": b"rubbish"}
        )
    else:
        with sqlite3.connect(world.path) as connection:
            connection.execute("UPDATE runs SET updated = 'yesterday' WHERE run_id = 'b'")
        connection.close()
    await world.clock.advance(1000)
    for retention in (Retention(max_age=10), Retention(keep_last=0)):
        assert "b" not in await kernel.prune(retention)
    assert [record.run_id for record in await kernel.runs()] == ["b"]
    assert [(finding.kind, finding.run_id) for finding in await kernel.check()] == [("corrupt", "b")]
    await kernel.delete("b")
    assert await kernel.runs() == []


async def test_prune_compares_a_filter_with_few_runs(
    kernel: Kernel, world: World, flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a million runs that match, it knows those that could be deleted next; and it deletes no others."""
    asked: list[RunFilter] = []
    monkeypatch.setattr("cano_durability.inspection.deleting.PAGE", 2)
    for number in range(7):
        await kernel.run(flow.flow(), {"x": 0}, run_id=f"{number}")
        await world.clock.advance(1)
    backend = world.store(kernel).backend
    runs, created = backend.runs, [run.created for run in reversed(await kernel.runs())]

    async def noted(filter: RunFilter) -> Any:
        asked.append(filter)
        return await runs(filter)

    monkeypatch.setattr(backend, "runs", noted)
    where = f"status = succeeded and created < {datetime.fromtimestamp(created[4], UTC).isoformat()}"
    planned = await kernel.prune(Retention(keep_last=1), where=where, dry_run=True)
    assert await kernel.prune(Retention(keep_last=1), where=where) == planned == ["3", "2", "1", "0"]
    assert {run.run_id for run in await kernel.runs()} == {"4", "5", "6"}
    for filter in asked[:-1]:
        assert filter.created_after is not None
        assert filter.created_before is not None
        assert sum(filter.created_after < each < filter.created_before for each in created) <= 2


async def test_half_a_lease_keeps_no_run(kernel: Kernel, world: World, flow: Flow) -> None:
    """A finished run whose row, edited by hand, has a holder and no expiry can be pruned and deleted."""
    for run_id in ("a", "b"):
        await kernel.run(flow.flow(), {"x": 0}, run_id=run_id)
        await world.store(kernel).backend.claim(run_id, "a ghost", 0, 1)
    backend: Any = world.store(kernel).backend
    if world.path is None:
        backend._runs = {run_id: run._replace(expires=None) for run_id, run in backend._runs.items()}
    else:
        with sqlite3.connect(world.path) as connection:
            connection.execute("UPDATE runs SET expires = NULL")
        connection.close()
    assert {record.holder for record in await kernel.runs()} == {"a ghost"}
    await kernel.delete("a")
    assert await kernel.prune(Retention(on_terminal="delete")) == ["b"]


async def test_an_unfinished_run_that_is_corrupt_can_be_cancelled_and_deleted(
    kernel: Kernel, world: World, flow: Flow
) -> None:
    """Its data cannot be read, but its place in the store can."""
    await flow.start(kernel, world, "r", "wait for ever")
    corrupt(kernel, world, "r")
    other = await world.kernel()
    assert await other.cancel("r")
    assert not await other.cancel("r")
    assert await other.prune(Retention(on_terminal="delete")) == ["r"]
    assert await world.find("r") is None


async def test_a_corrupt_run_is_cancelled_by_its_holder(kernel: Kernel, world: World, flow: Flow) -> None:
    """A process that executes a corrupt run need not read it, so another kernel can let it cancel the run."""
    await flow.start(kernel, world, "r", "hang")
    other = await world.kernel()
    world.faults(other).at_call("load", None).fail(SerializationError("run r is corrupt", run_id="r"))
    assert await other.cancel("r")
    await world.clock.advance(LEASE)
    (run,) = await other.runs()
    assert run.status is RunStatus.CANCELLED


async def test_a_corrupt_child_keeps_no_other_from_being_cancelled(
    kernel: Kernel, world: World, flow: Flow, caplog: pytest.LogCaptureFixture
) -> None:
    """All children of a cancelled run are cancelled but one that cannot be: that is logged, and found by `check`."""
    parent = "parent\nERROR"
    for run_id in (parent, "a", "b", "c"):
        await flow.start(kernel, world, run_id, "wait for ever")
    backend = world.store(kernel).backend
    for run_id in ("a", "b", "c"):
        record = await world.look(run_id)
        await backend.delete(run_id)
        await backend.create(record._replace(parent=parent))
    corrupt(kernel, world, "b")
    world.faults(kernel).at_call("claim", 3).fail(SerializationError("run b is\ncorrupt", run_id="b"))

    assert await kernel.cancel(parent)

    statuses = {run.run_id: run.status.value for run in await kernel.runs()}
    assert statuses == {parent: "cancelled", "a": "cancelled", "b": "parked", "c": "cancelled"}
    (message,) = [text for text in caplog.messages if "was not cancelled" in text]
    assert message.startswith(r"a child of run parent\nERROR was not cancelled: run b is")
    assert message.endswith(r"run b is\ncorrupt")
    assert {finding.kind for finding in await kernel.check() if finding.run_id == "b"} == {"corrupt", "orphan"}


async def test_delete(kernel: Kernel, world: World, flow: Flow) -> None:
    """A finished run goes with its history and its signals. What has not ended is refused, until it is cancelled."""
    for run_id, does in (("done", "nothing"), ("failed", "fail"), ("parked", "wait"), ("running", "hang")):
        await flow.start(kernel, world, run_id, does)
    other = await world.kernel()

    await other.delete("done")
    await other.delete("failed")
    for run_id, problem in (("parked", "it is parked"), ("running", "it is running")):
        with pytest.raises(ConflictError, match=rf"{problem}; cancel first: kernel.cancel\('{run_id}'\)"):
            await other.delete(run_id)
    with pytest.raises(ConflictError, match="this kernel executes it"):
        await kernel.delete("running")
    assert [run.run_id for run in await other.runs()] == ["running", "parked"]

    for run_id in ("parked", "running"):
        assert await other.cancel(run_id)
        await world.clock.advance(LEASE)
        await other.delete(run_id)
    assert list(await other.runs()) == []
    with pytest.raises(RunNotFoundError, match="'parked'"):
        await other.delete("parked")


async def test_delete_keeps_a_child_that_its_parent_needs(kernel: Kernel, world: World, flow: Flow) -> None:
    """A child that has ended is kept until its parent has, too."""
    child = flow.flow("child")
    parent = Workflow("call", name="parent").add_exit_state("end")
    parent.register("call", SubWorkflow(child, {"x": "x"}, then="wait"))
    parent.register("wait", lambda store: wait_for("go", then="end"))
    await kernel.start(parent, {"x": 0}, run_id="p")
    await world.settle()
    (made,) = await kernel.runs(parent="p")

    with pytest.raises(
        ConflictError, match=r"its parent p may still need its result; cancel first: kernel.cancel\('p'"
    ):
        await kernel.delete(made.run_id)
    await kernel.cancel("p")
    await kernel.delete(made.run_id)
    assert [run.run_id for run in await kernel.runs()] == ["p"]


async def test_check_finds_corrupt_rows(kernel: Kernel, world: World, flow: Flow) -> None:
    """A row that cannot be read is named, and hides no other."""
    for run_id in ("a", "b", "c"):
        await kernel.run(flow.flow(), {"x": 0}, run_id=run_id)
    corrupt(kernel, world, "b")
    (finding,) = await kernel.check()
    assert (finding.kind, finding.run_id) == ("corrupt", "b")
    assert "b" in finding.detail


async def test_check_does_not_take_strange_classes_for_damage(kernel: Kernel, world: World, flow: Flow) -> None:
    """A kernel that does not know a workflow, such as the command line's, does not call its classes corrupt."""
    own = Workflow("x", name="own", types=[Secret]).add_exit_state("end")

    async def put(store: Any) -> str:
        store["secret"] = Secret()
        return "end"

    await kernel.run(own.register("x", put), run_id="r")
    assert await kernel.check() == []
    assert await (await world.kernel()).check() == []


# what to forget


async def pruned(kernel: Kernel, retention: Retention, workflow: str | None = None) -> list[str]:
    """Prune, and check that a dry run names the same runs before and deletes none."""
    before = await kernel.runs()
    meant = await kernel.prune(retention, workflow=workflow, dry_run=True)
    assert await kernel.runs() == before
    deleted = await kernel.prune(retention, workflow=workflow)
    assert meant == deleted
    return deleted


async def test_prune(kernel: Kernel, world: World, flow: Flow) -> None:
    """Finished runs go that are too old or too many, by workflow; what has not ended stays."""
    for number in range(4):
        await flow.start(kernel, world, f"r{number}")
        await world.clock.advance(100)
    await flow.start(kernel, world, "parked", "wait")
    await flow.start(kernel, world, "running", "hang")
    await flow.start(kernel, world, "failed", "fail")
    await flow.start(kernel, world, "other", "nothing", "another")

    async def left() -> list[str]:
        return [run.run_id for run in await kernel.runs()]

    everything = await left()
    assert await pruned(kernel, Retention()) == []
    assert await left() == everything
    assert await pruned(kernel, Retention(max_age=350)) == ["r0"]
    assert await pruned(kernel, Retention(keep_last=2)) == ["r2", "r1"]
    assert await left() == ["other", "failed", "running", "parked", "r3"]
    assert await pruned(kernel, Retention(on_terminal="delete")) == ["other", "failed", "r3"]
    assert await left() == ["running", "parked"]
    with pytest.raises(RunNotFoundError):
        await kernel.history("r3")
    assert (await kernel.run(flow.flow(), {"x": 5}, run_id="r3")).data["one"] == 6  # a new run, of an id that is free


async def test_prune_in_pages_and_groups(
    kernel: Kernel, world: World, flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs on several pages, and in several transactions, are all deleted, and told the newest first."""
    monkeypatch.setattr("cano_durability.inspection.deleting.PAGE", 2)
    monkeypatch.setattr("cano_durability.inspection.deleting.GROUP", 1)
    for number in range(6):
        await flow.start(kernel, world, f"r{number}")
    assert await pruned(kernel, Retention(keep_last=1)) == ["r4", "r3", "r2", "r1", "r0"]
    assert [run.run_id for run in await kernel.runs()] == ["r5"]


@pytest.mark.parametrize("groups", [True, False])
async def test_prune_one_workflow(kernel: Kernel, world: World, flow: Flow, groups: bool) -> None:
    """Of one workflow, the same runs are deleted as without the filter, and no others."""
    store = world.store(kernel)
    store.capabilities = store.capabilities._replace(prune=groups)
    for number in range(3):
        await flow.start(kernel, world, f"one{number}", "nothing", "one")
        await flow.start(kernel, world, f"two{number}", "nothing", "two")

    assert await pruned(kernel, Retention(keep_last=2), "one") == ["one0"]
    assert await pruned(kernel, Retention(on_terminal="delete"), "none") == []
    assert await pruned(kernel, Retention(on_terminal="delete"), "two") == ["two2", "two1", "two0"]
    assert await pruned(kernel, Retention(keep_last=1)) == ["one1"]
    assert [run.run_id for run in await kernel.runs()] == ["one2"]


@pytest.mark.parametrize("groups", [True, False])
async def test_prune_keeps_what_somebody_holds(kernel: Kernel, world: World, flow: Flow, groups: bool) -> None:
    """A failed run that somebody resumes in this very moment is not forgotten under his hands."""
    await flow.start(kernel, world, "r", "fail")
    other, store = await world.kernel(), world.store(kernel)
    store.capabilities = store.capabilities._replace(prune=groups)
    delete = store.faults.at_call("delete_finished" if groups else "claim").hang()
    pruning = asyncio.ensure_future(kernel.prune(Retention(on_terminal="delete")))
    await delete.reached()
    flow.does = "hang"
    resumed = asyncio.ensure_future(other.resume(flow.flow(), "r"))
    await world.settle()
    delete.release()
    assert await pruning == []
    flow.gate.set()
    assert (await resumed).data == END


async def test_prune_keeps_the_children_of_the_living(kernel: Kernel, world: World, flow: Flow) -> None:
    """A finished child stays as long as its parent may ask for its result; then both may go."""
    did: list[int] = []

    async def count(store: Any) -> str:
        did.append(1)
        return "end"

    async def wait(store: Any) -> str:
        await flow.gate.wait()
        return "end"

    def parent() -> Workflow[str]:
        child = Workflow("count", name="child").register("count", count).add_exit_state("end")
        made = Workflow("call", name="parent").add_exit_state("end").register("wait", wait)
        return made.register("call", SubWorkflow(child, then="wait"))

    fault = world.faults(kernel).at_call("commit", 2).hang()  # the child's end, and then the parent's step
    await kernel.start(parent(), run_id="p")
    await fault.reached()
    other = await world.kernel()
    assert await pruned(other, Retention(on_terminal="delete")) == []
    await world.crash(kernel)
    await world.lapse()
    flow.gate.set()
    await other.resume(parent(), "p")
    assert did == [1]
    assert sorted(await pruned(other, Retention(on_terminal="delete"))) == ["p", "p:1/child"]


async def test_prune_keeps_the_children_of_a_failed_run(kernel: Kernel, flow: Flow) -> None:
    """A run that failed after its child can be resumed: the child is not executed again, unless both were deleted."""
    did: list[int] = []

    async def count(store: Any) -> str:
        did.append(1)
        return "end"

    child = Workflow("count", name="child").register("count", count).add_exit_state("end")
    called = SubWorkflow(child, then="end")

    async def call(store: Any) -> str:
        following: str = await called.run(store)
        if not flow.gate.is_set():
            raise ValueError("not yet")
        return following

    parent = Workflow("call", name="parent").register("call", call, config=TaskConfig.minimal()).add_exit_state("end")
    for run_id in ("q", "p"):
        with pytest.raises(TaskError):
            await kernel.run(parent, run_id=run_id)
    assert await pruned(kernel, Retention(keep_last=1)) == ["q:1/child", "q"]
    await kernel.run(child, run_id="newer")
    assert await pruned(kernel, Retention(keep_last=1)) == []
    with pytest.raises(
        ConflictError, match=r"its parent p may still need its result; delete first: kernel.delete\('p'\)"
    ):
        await kernel.delete("p:1/child")
    flow.gate.set()
    did.clear()
    assert (await kernel.resume(parent, "p")).state == "end"
    assert did == []


def test_a_retention_that_is_none() -> None:
    """What makes no sense is refused."""
    for wrong in ({"keep_last": -1}, {"keep_last": True}, {"max_age": 0}, {"max_age": -1.0}, {"on_terminal": "burn"}):
        with pytest.raises(ConfigurationError):
            Retention(**wrong)


async def test_cancelled_runs_are_finished(kernel: Kernel, world: World, flow: Flow) -> None:
    """A cancelled run is over, and may be forgotten."""
    await flow.start(kernel, world, "r", "wait")
    await kernel.cancel("r")
    with pytest.raises(RunCancelledError):
        await kernel.run(flow.flow(), run_id="r")
    assert await pruned(kernel, Retention(on_terminal="delete")) == ["r"]


@pytest.mark.parametrize("by", ["sub-workflows", "the kernel"])
async def test_explain_two_runs_that_wait_for_each_other(kernel: Kernel, world: World, by: str) -> None:
    """Each parent names the run that it waits for, and the limit that this one waits for, with its holder."""
    limits, gate = [Limit(1), Limit(1)], asyncio.Event()

    async def work(store: Any) -> str:
        return "end"

    def child(number: int) -> Workflow[str]:
        flow: Workflow[str] = Workflow("work", name=f"child{number}", limit=limits[1 - number])
        return flow.register("work", work).add_exit_state("end")

    async def call(store: Any) -> str:
        await gate.wait()
        number = store["number"]
        if by == "the kernel":
            await kernel.run(children[number], run_id=f"p{number}:1/child{number}")
            return "end"
        return await SubWorkflow(children[number], then="end").run(store)

    children = [child(0), child(1)]
    for number, limit in enumerate(limits):
        flow: Workflow[str] = Workflow("call", name=f"parent{number}", limit=limit)
        flow.register("call", call).add_exit_state("end")
        await kernel.start(flow, {"number": number}, run_id=f"p{number}")
    await world.settle()
    gate.set()
    await world.settle()

    for number in (0, 1):
        explanation = await kernel.explain(f"p{number}")
        assert explanation.reason is Standstill.RUNNING_HERE
        waits = f"it waits for run p{number}:1/child{number}, which waits for a slot of Limit(1), held by run p"
        assert str(explanation).endswith(f"{waits}{1 - number}")
    assert (await kernel.explain("p0:1/child0")).reason is Standstill.WAITING_FOR_LIMIT


@pytest.mark.parametrize("pages", [True, False])
async def test_parts_of_a_history(kernel: Kernel, world: World, flow: Flow, pages: bool) -> None:
    """`history` returns pages, and a fork reads no more than the steps up to it, if the store can do that."""
    await kernel.run(flow.flow(), {"x": 0}, run_id="r")
    counting = Workflow("count", name="count").register("count", FunctionTask(count)).add_exit_state("end")
    await kernel.run(counting, {"n": 0}, run_id="long")
    store = world.store(kernel).backend
    store.capabilities = store.capabilities._replace(history_pages=pages)
    kernel.backend.capabilities = store.capabilities  # type: ignore[union-attr]  # it is open
    whole = await kernel.history("r")
    read: list[int] = []
    for name in ("history", "history_page"):
        _spy(store, name, read)

    assert await kernel.history("r", limit=2) == whole[:2]
    assert await kernel.history("r", after=1) == whole[2:]
    assert await kernel.history("r", after=0, limit=2) == whole[1:3]
    assert await kernel.history("r", after=3) == await kernel.history("r", limit=0) == []
    for wrong in ({"after": 0}, {"limit": 0}):
        with pytest.raises(RunNotFoundError, match="'nobody'"):
            await kernel.history("nobody", **wrong)
    with pytest.raises(ConfigurationError, match="after must be a whole number, 0 or more, or None, not -1"):
        await kernel.history("r", after=-1)
    read.clear()
    await kernel.fork("long", 3, "f")
    assert max(read) == (4 if pages else 51)
    await kernel.fork("f", 3, "g")
    assert (await kernel.resume(counting, "g")).data == {"n": 50}
    assert [line.origin for line in await kernel.history("g", limit=1)] == [("f", 3)]
    assert [line.seq for line in await kernel.history("g", after=48)] == [49, 50]


async def count(store: Any) -> str:
    """Count to fifty."""
    store["n"] += 1
    return "count" if store["n"] < 50 else "end"


def _spy(store: Any, name: str, read: list[int]) -> None:
    """Note how many entries each call of a store returns."""
    honest = getattr(store, name)

    async def spied(*given: Any) -> Any:
        entries = await honest(*given)
        read.append(len(entries))
        return entries

    setattr(store, name, spied)


async def test_a_thread_works_on_a_long_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop does not decide the status of a thousand runs; that of a few, it does."""
    threads = list[threading.Thread]()

    def noting(record: RunRecord, now: float) -> RunRecord:
        threads.append(threading.current_thread())
        return with_status_at(record, now)

    monkeypatch.setattr(listing, "with_status_at", noting)
    async with Kernel(store="memory://?strict=1") as kernel:
        assert kernel.backend is not None
        for number in range(MANY):
            await kernel.backend.create(free_run(str(number)))
        assert len(await kernel.runs(status="queued")) == MANY
        assert threading.current_thread() not in threads
        assert len(await kernel.runs(limit=1)) == 1
        assert threads[MANY:] == [threading.current_thread()]
