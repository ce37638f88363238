"""The audit of every store of ours: who acted on a run from outside, and when; whatever becomes of the run."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from cano import (
    AuditEntry,
    ConfigurationError,
    ConflictError,
    Kernel,
    Retention,
    RunStatus,
    StoreBackend,
    TaskError,
    Workflow,
    wait_for,
)
from cano.testing import VirtualClock
from cano_scheduler import Scheduler


async def ask(store: Any) -> Any:
    """Wait for an answer."""
    return wait_for("answer", then="DO")


async def do(store: Any) -> str:
    """Fail unless the run may succeed."""
    if not store["good"]:
        raise ValueError
    return "DONE"


flow: Workflow[Any] = Workflow("ASK", name="asking").register("ASK", ask).register("DO", do).add_exit_state("DONE")


async def parked(kernel: Kernel, run_id: str, good: bool = True) -> None:
    """Start a run, and return when it is parked."""
    await kernel.start(flow, {"good": good}, run_id=run_id)
    await kernel.active[run_id].ended()


def short(entries: list[AuditEntry]) -> list[tuple[str | None, str, str, str]]:
    """The entries without their times."""
    return [(entry.run_id, entry.action, entry.actor, entry.detail) for entry in entries]


async def test_each_action_leaves_an_entry(store: str | StoreBackend) -> None:
    """Signals, cancellations, resumptions, forks and deletions have one each, which deletions leave; refusals none."""
    async with Kernel(store=store, actor="Ada") as ada:
        for run_id in ("good", "bad", "parked"):
            await parked(ada, run_id, run_id != "bad")
        assert await ada.audit() == []
        for _ in range(2):
            assert await ada.signal("bad", "answer", "a secret", id="1")
        with pytest.raises(TaskError):
            await ada.run(flow, run_id="bad")
    async with Kernel(store=store, actor="Bob") as bob:
        with pytest.raises(TaskError):
            await bob.resume(flow, "bad")
        await bob.fork("bad", 0, "fork")
        with pytest.raises(ConfigurationError):
            await bob.fork("bad", 0, "good")
        assert await bob.cancel("parked")
        assert not await bob.cancel("parked")
        assert await bob.signal("good", "answer")
        assert (await bob.run(flow, run_id="good")).state == "DONE"
        assert not await bob.signal("good", "answer")
        with pytest.raises(ConflictError):
            await bob.delete("fork")
        await bob.delete("good")
        assert await bob.prune(Retention(keep_last=1)) == ["bad"]

        assert short(await bob.audit("bad")) == [
            ("bad", "signal", "Ada", "answer, id 1"),
            ("bad", "resume", "Bob", ""),
            ("bad", "prune", "Bob", ""),
        ]
        assert short(await bob.audit("good")) == [
            ("good", "signal", "Bob", "answer"),
            ("good", "delete", "Bob", ""),
        ]
        assert short(await bob.audit("parked")) == [("parked", "cancel", "Bob", "")]
        assert short(await bob.audit("fork")) == [("fork", "fork", "Bob", "of bad after transition 0")]
        everything = await bob.audit()
        assert len(everything) == 7
        assert await bob.audit(limit=2) == everything[-2:]
        assert await bob.audit("never") == []

        times = [entry.at for entry in everything]
        assert times == sorted(times)
        assert times[-1] <= bob.clock.time() < times[0] + 120


async def test_a_run_that_is_executed_here(store: str | StoreBackend) -> None:
    """A cancellation by the kernel that executes the run, or by its handle, is in the audit with the run's end."""

    async def wait(store: Any) -> str:
        await VirtualClock(auto=False).sleep(1)
        return "DONE"

    waiting: Workflow[Any] = Workflow("WAIT", name="waiting").register("WAIT", wait).add_exit_state("DONE")
    async with Kernel(store=store, actor="Ada") as kernel:
        handles = [await kernel.start(waiting, {}, run_id=run_id) for run_id in ("one", "two", "three")]
        await handles[0].cancel()
        assert await kernel.cancel("two")
        await kernel.active["two"].ended()
        await kernel.close(grace=0)  # interrupts the third
    async with Kernel(store=store) as kernel:
        statuses = {run.run_id: run.status for run in await kernel.runs()}
        assert statuses == {
            "one": RunStatus.CANCELLED, "two": RunStatus.CANCELLED, "three": RunStatus.INTERRUPTED,
        }  # fmt: skip
        assert sorted(short(await kernel.audit())) == [("one", "cancel", "Ada", ""), ("two", "cancel", "Ada", "")]


async def test_a_request_to_another_process(store: str | StoreBackend) -> None:
    """If another kernel executes the run, the entry is that of the request, and there is one."""
    held = VirtualClock(auto=False)

    async def wait(store: Any) -> str:
        await held.sleep(1)
        return "DONE"

    waiting: Workflow[Any] = Workflow("WAIT", name="waiting").register("WAIT", wait).add_exit_state("DONE")
    async with Kernel(store=store, actor="Ada", poll=0.01, lease=0.5) as ada, Kernel(store=store, actor="Bob") as bob:
        await ada.start(waiting, {}, run_id="one")
        assert await bob.cancel("one")
        if (run := ada.active.get("one")) is not None:
            await run.ended()
        assert short(await bob.audit()) == [("one", "cancel", "Bob", "")]


async def test_schedules(store: str | StoreBackend) -> None:
    """What callers do with a schedule is in the audit of its record; what the scheduler does by itself is not."""
    if isinstance(store, StoreBackend):
        return  # without a durable store, schedules are in memory
    done: Workflow[Any] = Workflow("DONE", name="nothing").register("DONE", lambda store: "END").add_exit_state("END")
    async with Kernel(store=store, actor="Ada") as kernel:
        async with Scheduler(kernel).every("often", done, 3600) as scheduler:
            for act in (scheduler.pause, scheduler.pause, scheduler.resume, scheduler.reset):
                await act("often")
            await (await scheduler.trigger("often")).result()
            await scheduler.remove("often")
        entries = await kernel.audit()
        assert {entry.actor for entry in entries} == {"Ada"}
        assert len({entry.run_id for entry in entries}) == 1
        assert [entry.action for entry in entries] == ["pause", "resume", "reset", "trigger", "remove"]


async def test_entries_are_pruned_by_age(store: str | StoreBackend) -> None:
    """Only `prune_audit` deletes entries, and says so in the audit."""
    async with Kernel(store=store, actor="Ada") as kernel:
        backend: Any = kernel.backend
        now = kernel.clock.time()
        await backend.add_audit(
            [AuditEntry("one", "cancel", "Bob", now - 100), AuditEntry("one", "delete", "Bob", now)]
        )
        assert await kernel.prune(Retention(on_terminal="delete")) == []
        assert await kernel.prune_audit(50) == 1
        assert short(await kernel.audit()) == [
            ("one", "delete", "Bob", ""),
            (None, "audit pruned", "Ada", "entries older than 50 s"),
        ]
        assert await kernel.prune_audit(timedelta(days=1)) == 0
        for wrong in (0, -1, None, "soon"):
            with pytest.raises(ConfigurationError, match="max_age must be"):
                await kernel.prune_audit(wrong)  # type: ignore[arg-type]


async def test_a_store_without_an_audit() -> None:
    """A volatile store keeps none: actions work, and asking for the audit names the problem."""
    async with Kernel() as kernel:
        await parked(kernel, "one")
        assert await kernel.cancel("one")
        with pytest.raises(ConfigurationError, match="keeps no audit"):
            await kernel.audit("one")
