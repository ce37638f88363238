"""Actions on many runs, on each store: by another kernel than the one that made them."""

from __future__ import annotations

from typing import Any

from cano import BulkReport, Kernel, RunStatus, StoreBackend, TaskConfig, Workflow, wait_for

from tests.acceptance.durability.shared import ONLY


async def test_many_runs_are_repaired_on_each_store(store: str | StoreBackend) -> None:
    """What failed in an outage continues where it failed; others are forked, signalled and cancelled."""
    outage = True
    tried: list[str] = []

    async def take(store: Any) -> str:
        tried.append(f"take {store['name']}")
        return "PAY"

    async def pay(store: Any) -> Any:
        tried.append(f"pay {store['name']}")
        if outage:
            raise ConnectionError("no bank")
        return wait_for("paid", then="END")

    flow: Workflow[str] = Workflow("TAKE", name="trip", default_config=TaskConfig.minimal()).add_exit_state("END")
    flow.register("TAKE", take).register("PAY", pay)
    async with Kernel(store=store, **ONLY) as kernel:
        for name in "abc":
            handle = await kernel.start(flow, {"name": name}, run_id=name)
            assert isinstance(await _outcome(handle), ConnectionError)
    outage = False
    async with Kernel(store=store, **ONLY) as kernel:
        where = "workflow = trip and status = failed and state = PAY and updated > 1h ago"
        assert await kernel.resume_many(flow, where, rate=1000) == BulkReport(3, 3, {}, {}, {"parked": 3})
        assert tried[6:] == ["pay c", "pay b", "pay a"]
        assert (await kernel.resume_many(flow, where)).matched == 0
        assert await kernel.fork_many("status = parked", "-2") == BulkReport(3, 3, {}, {})
        assert [run.run_id for run in await kernel.runs(status="parked", limit=3)] == ["a-2", "b-2", "c-2"]
        assert (await kernel.signal_many("created > 1h ago", "paid", id="once")).done == 6
        for run_id in ("a", "c-2"):
            assert (await kernel.run(flow, run_id=run_id)).state == "END"
        await kernel.start(flow, {"name": "late"}, run_id="late")
        while (await kernel.get("late")).status is not RunStatus.PARKED:
            for run in list(kernel.active.values()):
                await run.ended()
        report = await kernel.cancel_many("workflow = trip")
        assert report.refused["a"] == report.refused["c-2"] == "it has ended: succeeded"
        assert (await kernel.get("late")).status is RunStatus.CANCELLED


async def _outcome(handle: Any) -> BaseException | None:
    """The cause of the error that a run ended with."""
    try:
        await handle.result()
    except Exception as error:  # noqa: BLE001  # the test compares it
        return error.__cause__
    return None
