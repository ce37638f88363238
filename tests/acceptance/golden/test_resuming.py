"""Runs in golden data are resumed, and end as they would have ended without the change of the program."""

from __future__ import annotations

import asyncio

import pytest
from cano import ConfigurationError, Retention, RunStatus, RunTimeoutError, VersionMismatchError, WorkflowError

from tests.acceptance.golden import flows
from tests.acceptance.golden.acts import GOODS
from tests.acceptance.golden.copies import Golden
from tests.acceptance.golden.expected import BODIES, FAILURES, FINISHED, RECOVERED, RESUMED, RUNS, SIGNALLED
from tests.acceptance.golden.observers import TRACEPARENT, Parked, Witness
from tests.acceptance.golden.times import AFTER_ALL, AFTER_FAR, READ, YEAR
from tests.acceptance.golden.values import LAMP

LAST_WITHOUT_TRACEBACKS = 3
"""The last of these folders whose version kept no traceback of failed runs."""


async def test_results(golden: Golden) -> None:
    """A run that has succeeded returns its result, and no step is executed."""
    witness = Witness()
    async with golden.at(READ, witness) as kernel:
        for run_id in golden.of(FINISHED):
            result = await kernel.run(flows.BY_NAME[RUNS[run_id].workflow], {}, run_id=run_id)
            assert (result.state, repr(result.data)) == (FINISHED[run_id].state, repr(FINISHED[run_id].data))
    assert witness.steps == {}


async def test_recovery(golden: Golden) -> None:
    """`recover` resumes the runs that were interrupted, or whose signal or time has come, and they end as planned."""
    witness = Witness()
    async with golden.at(READ, witness) as kernel:
        handles = {handle.run_id: handle for handle in await kernel.recover(*flows.ALL)}
        results = {run_id: await handles[run_id].result() for run_id in golden.of(RECOVERED)}
        for run in [kernel.active[run_id] for run_id in golden.of(["surveyed"]) if run_id in kernel.active]:
            await run.ended()
        left = {record.run_id: record.status for record in await kernel.runs()}
        findings = await kernel.check()

    waits = golden.of(["surveyed"])  # for its child, which is parked
    children = golden.of(["trip:1/Errand", "trips:1:0:workflow Errand/Errand"])
    assert handles.keys() - set(children) == {*golden.of(RECOVERED), *waits}  # `recover` or the parent claims a child
    assert {run_id: (result.state, repr(result.data)) for run_id, result in results.items()} == {
        run_id: (RECOVERED[run_id].state, repr(RECOVERED[run_id].data)) for run_id in golden.of(RECOVERED)
    }
    assert witness.steps == {
        **{run_id: RECOVERED[run_id].steps for run_id in golden.of(RECOVERED)},
        **{run_id: ["FETCH"] for run_id in children},
        **{run_id: ["SEND"] for run_id in waits},
    }
    assert sorted(flows.BODIES, key=str) == sorted(BODIES if children else BODIES[:1])
    assert witness.carried == {run_id: {"traceparent": TRACEPARENT} for run_id in golden.of(["carried"])}
    became = {
        **dict.fromkeys(golden.of([*RECOVERED, *children]), RunStatus.SUCCEEDED),
        **dict.fromkeys(golden.of(["held"]), RunStatus.CANCELLED),
        **dict.fromkeys(waits, RunStatus.PARKED),
    }
    assert left == {run_id: became.get(run_id, run.status) for run_id, run in golden.runs.items()}
    of_schedules = {"written@write:one", "batch@write many:one"}
    assert {(finding.kind, finding.run_id) for finding in findings} == {("stale lease", id) for id in of_schedules}


async def test_queues(complete: Golden) -> None:
    """A store that was made before there were queues keeps them now; its runs are in the queue "default"."""
    witness = Witness()
    async with complete.at(READ, witness) as kernel:
        if not complete.url.startswith(("sqlite", "postgres")):
            with pytest.raises(ConfigurationError, match="keeps one queue of submitted runs"):
                await kernel.submit(flows.visit, queue="mail")
            return
        for run_id, queue in (("new", "mail"), ("other", "reports")):
            await kernel.submit(flows.visit, run_id=run_id, queue=queue, priority=1, key="x")
        await kernel.recover(*flows.ALL, queues=["mail"])
        await (await kernel.attach("new")).result()
        left = {record.run_id: record.status for record in await kernel.runs() if record.run_id not in ("new", "other")}
        assert await kernel.required_keeper().queue_sizes() == {}
        assert (await kernel.get("other")).status is RunStatus.QUEUED
    assert {*witness.steps} == {"new"}
    assert left == {run_id: run.status for run_id, run in complete.runs.items()}


async def test_signals(complete: Golden) -> None:
    """A signal wakes a run that waits for it."""
    witness = Witness()
    async with complete.at(READ, witness) as kernel:
        for run_id in complete.of(SIGNALLED):
            name, end = SIGNALLED[run_id]
            handle = await kernel.start(flows.BY_NAME[RUNS[run_id].workflow], {}, run_id=run_id)
            assert handle.status().status is RunStatus.PARKED
            assert await kernel.signal(run_id, name, LAMP)
            result = await handle.result()
            assert (result.state, repr(result.data)) == (end.state, repr(end.data))
    assert witness.steps == {run_id: SIGNALLED[run_id][1].steps for run_id in complete.of(SIGNALLED)}


async def test_a_parked_child_and_its_parent(complete: Golden) -> None:
    """A parent that was waiting for its parked child is resumed, and ends after the signal for the child."""
    async with complete.at(READ) as kernel:
        (handle,) = await kernel.recover(flows.survey)
        await kernel.signal("surveyed:1/Approval", "approved", LAMP)
        result = await handle.result()
    assert (result.state, result.data) == (flows.Trip.DONE, {"brought": LAMP, "unpacked": LAMP})


async def test_a_signal_that_came_before_its_run(golden: Golden) -> None:
    """A run gets the signal that was sent before it existed."""
    async with golden.at(READ) as kernel:
        result = await kernel.run(flows.approval, {}, run_id="early")
    assert result.data == {"asked": True, "payload": {"item": LAMP}}


async def test_a_signal_counts_once(complete: Golden) -> None:
    """A second signal with the id of an earlier one is ignored, whether that was consumed or not."""
    async with complete.at(READ) as kernel:
        for id in ("witness-1", "witness-3"):
            assert await kernel.signal("heard", "witness", "again", id=id)
        (handle,) = await kernel.recover(flows.hearing)
        assert (await handle.result()).data == {"heard": ["one", "two", "three"]}


async def test_times(complete: Golden) -> None:
    """A run that waits for a time is resumed when it has come."""
    witness = Witness()
    async with complete.at(AFTER_FAR, witness) as kernel:
        await asyncio.gather(*(handle.result() for handle in await kernel.recover(flows.timer, flows.answer)))
    assert witness.steps == {"asleep": ["WAKE"], "rested": ["WAKE"], "unanswered": ["SILENCE"]}


async def test_deadlines(complete: Golden) -> None:
    """A run fails when its deadline is over, whether it was parked or interrupted."""
    async with complete.at(AFTER_ALL) as kernel:
        handles = {handle.run_id: handle for handle in await kernel.recover(flows.order, flows.approval, flows.answer)}
        for run_id in ("dated", "dated-parked"):
            with pytest.raises(RunTimeoutError, match=f"run {run_id} took longer than") as caught:
                await handles.pop(run_id).result()
            assert caught.value.timeout == 100 * YEAR
        results = {run_id: await handle.result() for run_id, handle in handles.items()}
    assert results["patient"].data["answer"] is None


async def test_failures(golden: Golden) -> None:
    """A failed run raises its error again. `resume` continues from the state that failed."""
    witness = Witness()
    async with golden.at(READ, witness) as kernel:
        for run_id in golden.of(FAILURES):
            kind, message, state, attempt = FAILURES[run_id]
            flow = flows.BY_NAME[RUNS[run_id].workflow]
            with pytest.raises(WorkflowError) as caught:
                await kernel.run(flow, {}, run_id=run_id)
            error = caught.value
            assert type(error).__name__ == kind
            assert str(error).startswith(message)
            assert (error.run_id, error.workflow, error.state, error.attempt) == (run_id, flow.name, state, attempt)
            assert getattr(error, "timeout", 3600) == 3600
            assert (error.traceback is not None) == (golden.number > LAST_WITHOUT_TRACEBACKS)
            if run_id in ("failed", "failed-node", "exhausted"):
                assert "caused by ConnectionError: the bank is closed" in error.__notes__
            assert witness.steps == {}

            result = await kernel.resume(flow, run_id)
            assert (result.state, repr(result.data)) == (RESUMED[run_id].state, repr(RESUMED[run_id].data))
            child = {f"{run_id}:1/Errand": ["FETCH"]} if run_id == "trip-overdue" else {}
            assert witness.steps == {run_id: RESUMED[run_id].steps, **child}
            witness.steps.clear()
    assert ["2:third"] * len(golden.of(["failed-join"])) == flows.BODIES


async def test_a_migrated_run(complete: Golden) -> None:
    """A run that was migrated needs no `migrate`, and does not fit the old definition."""
    async with complete.at(READ) as kernel:
        with pytest.raises(VersionMismatchError, match="its version was '2', this one is '1'"):
            await kernel.start(flows.old_letter, {}, run_id="migrated")
        handle = await kernel.start(flows.new_letter, {}, run_id="migrated")
        await kernel.signal("migrated", "go", "off")
        result = await handle.result()
    assert (result.state, result.data) == ("DONE", {"proof": "proof it", "sent": "off"})


async def test_a_run_to_migrate(complete: Golden) -> None:
    """A run of the old definition needs `migrate`."""
    parked = Parked()
    async with complete.at(READ, parked) as kernel:
        with pytest.raises(VersionMismatchError, match="its version was '1', this one is '2'"):
            await kernel.start(flows.new_letter, {}, run_id="unmigrated")
        handle = await kernel.start(flows.migrating_letter, {}, run_id="unmigrated")
        await kernel.signal("unmigrated", "go", "now")
        await parked.event.wait()
        await kernel.signal("unmigrated", "go", "off")
        result = await handle.result()
    assert (result.state, result.data) == ("DONE", {"proof": "now", "sent": "off"})


async def test_pruning(golden: Golden) -> None:
    """Finished runs can be deleted. Their ids are then free."""
    finished = {run_id for run_id, run in golden.runs.items() if run.status.finished}
    async with golden.at(READ) as kernel:
        assert set(await kernel.prune(Retention(on_terminal="delete"))) == finished
        assert {record.run_id for record in await kernel.runs()} == golden.runs.keys() - finished
        result = await kernel.run(flows.order, GOODS, run_id="finished")
    assert result.data["shipped"] == "finished:3"
