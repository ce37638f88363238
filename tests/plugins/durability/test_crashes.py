"""`survives_crashes`: the test that every user wants."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest
from cano import ConfigurationError, Workflow
from cano.testing import CrashPoint, CrashReport, Outcome, survives_crashes

from tests.plugins.durability import crash_flows as flows

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")]
APPROVED = [("approved", {"by": "Ada"})]


async def one(store: Any) -> str:
    """A task of a test module."""
    store["x"] = store["x"] + 1
    return "end"


flow = Workflow("one", name="mine").register("one", one).add_exit_state("end")


def test_a_flow_of_a_test_module() -> None:
    """A workflow that is a global of a test module is found, and killed before and after each of its writes."""
    report = survives_crashes(flow, {"x": 1})
    assert [(point.number, point.when, point.write) for point in report.points] == [
        (1, "before", "the creation of a run of 'mine'"),
        (1, "after", "the creation of a run of 'mine'"),
        (2, "before", "transition 1 to end, succeeded"),
        (2, "after", "transition 1 to end, succeeded"),
    ]
    outcome = report.outcome
    assert (outcome.status, outcome.state, outcome.data, outcome.error) == ("succeeded", "end", {"x": 2}, None)
    assert str(report) == (
        "succeeded in end, killed at 4 points:\n"
        "  before write 1 (the creation of a run of 'mine')\n"
        "  after write 1 (the creation of a run of 'mine')\n"
        "  before write 2 (transition 1 to end, succeeded)\n"
        "  after write 2 (transition 1 to end, succeeded)"
    )


def test_waits_retries_and_types() -> None:
    """A flow that waits for a person, tries again in hours and sleeps for a month takes no time, and survives."""
    report = survives_crashes(flows.everything, signals=APPROVED)
    data = report.outcome.data
    assert data["receipts"] == [flows.Receipt(f"{report.outcome.run_id}:1", 1.5)]
    assert math.isnan(data["nan"])
    assert data["by"] == {"by": "Ada"}
    writes = {point.write for point in report.points}
    assert {"transition 1 to approve", "a claim of the run"} <= writes
    assert any(write.endswith("parked") for write in writes)


def test_splits_and_sub_workflows() -> None:
    """A flow with branches and a child survives; the child's writes are points too."""
    report = survives_crashes(flows.parts)
    assert report.outcome.data == {"log": ["left", "right"], "sum": 3, "doubled": 6}
    writes = [point.write for point in report.points]
    assert writes.count("a commit in state split") == 4
    assert "the creation of a run of 'child'" in writes


def test_a_family_that_is_parked() -> None:
    """A child sleeps twice, and all of its ancestors are parked meanwhile: a process that knows the eldest wakes it."""
    report = survives_crashes(flows.family)
    assert report.outcome.data == {"naps": 2}
    writes = [point.write for point in report.points]
    assert len([write for write in writes if write.endswith("parked")]) == 8  # the child twice, its ancestors once


def test_a_flow_that_fails_the_same_way() -> None:
    """A run that fails in any case survives too, if it fails in the same way."""
    outcome = survives_crashes(flows.failing, status="failed").outcome
    assert (outcome.status, outcome.state) == ("failed", "breaks")
    assert outcome.error == "task 'breaks' failed: ValueError: for good"


@pytest.mark.parametrize(
    ("made", "status", "problem"),
    [
        (
            flows.failing,
            "succeeded",
            "the run has failed in breaks even without a crash: task 'breaks' failed: ValueError: for good; "
            "if that is intended, pass status='failed'",
        ),
        (
            flow,
            "failed",
            "the run has succeeded in end even without a crash; if that is intended, pass status='succeeded'",
        ),
    ],
)
def test_a_run_that_ends_otherwise(made: Workflow[Any], status: str, problem: str) -> None:
    """A flow that always fails has not survived: the comparison is with a run that succeeded, unless a test says so."""
    with pytest.raises(AssertionError) as caught:
        survives_crashes(made, {"x": 1}, status=status)
    assert str(caught.value) == problem
    with pytest.raises(ConfigurationError, match="status"):
        survives_crashes(made, {"x": 1}, status="done")


def test_a_flow_that_goes_on_after_a_failure() -> None:
    """The error that led to a state is there again after a crash."""
    outcome = survives_crashes(flows.exhausted).outcome
    assert outcome.data == {"because": "task 'breaks' failed: ValueError: for good"}


@pytest.mark.parametrize("name", ["flow", "made"])
def test_by_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A workflow can be named as module and attribute, or as a function that makes it."""
    source = """
        from cano import Workflow
        async def work(store):
            store["y"] = 1
            return "end"
        def made():
            return Workflow("work").register("work", work).add_exit_state("end")
        flow = made()
    """
    (tmp_path / f"their_{name}.py").write_text(source.replace("\n        ", "\n"))
    monkeypatch.syspath_prepend(tmp_path)
    assert survives_crashes(f"their_{name}:{name}").outcome.data == {"y": 1}


def test_a_flow_that_counts_in_memory() -> None:
    """A workflow that keeps something outside the store is caught: the point and the difference are named."""
    with pytest.raises(AssertionError) as caught:
        survives_crashes(flows.in_memory)
    assert str(caught.value) == (
        "the run does not survive a crash after write 2 (transition 1 to count_again):\n"
        "  - data['counts']: [1, 2] without the crash, [1, 1] with it"
    )


def test_a_flow_whose_effects_are_doubled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`check` sees effects on the outside: once with the idempotency key; twice without, and the point is named."""
    provider = tmp_path / "provider"
    monkeypatch.setenv("CANO_TEST_PROVIDER", str(provider))

    def once(outcome: Outcome) -> None:
        lines = provider.read_text().splitlines()
        provider.unlink()
        assert len(set(lines)) == 1
        assert lines == ["charged"] or outcome.run_id in lines[0]

    survives_crashes(flows.charging_once, check=once)

    def charged_once(outcome: Outcome) -> None:
        lines = provider.read_text().splitlines()
        provider.unlink()
        assert lines == ["charged"]

    with pytest.raises(AssertionError, match="charged") as caught:
        survives_crashes(flows.charging, check=charged_once)
    assert caught.value.__notes__ == ["after a crash before write 3 (transition 2 to end, succeeded)"]


def test_a_flow_that_ends_its_process() -> None:
    """A task that ends the process is told from a crash of ours, with what it printed."""
    with pytest.raises(AssertionError, match="without a crash, its process ended with status 3") as caught:
        survives_crashes(flows.exiting)
    assert "giving up" in str(caught.value)


def test_a_flow_that_hangs() -> None:
    """A run that does not end is given up."""
    with pytest.raises(AssertionError, match=r"without a crash, the run did not end within 3 s"):
        survives_crashes(flows.hanging, patience=3)


def test_branches_that_wait_for_each_other() -> None:
    """A finished branch is not called again, so the one that waits for it hangs. Both are named, without waiting."""
    with pytest.raises(AssertionError) as caught:
        survives_crashes(flows.siblings)
    assert str(caught.value) == (
        "after a crash after write 2 (a commit in state split), the run hangs:\n"
        "  - in state split of workflow 'siblings', branch '1:waits' is waiting\n"
        "  - finished before the crash, and therefore not called again: '0:sets'; "
        "a branch must not wait for what another branch does outside the store"
    )


@pytest.mark.parametrize("virtual", [True, False])
def test_a_task_that_waits_for_ever(virtual: bool) -> None:
    """It is named, in virtual time at once, in real time when patience ends."""
    with pytest.raises(AssertionError) as caught:
        survives_crashes(flows.endless, virtual_time=virtual, patience=60 if virtual else 1)
    assert str(caught.value) == (
        "without a crash, the run hangs:\n  - in state wait_for_ever of workflow 'straight', the task is waiting"
    )


def test_a_signal_that_is_not_sent() -> None:
    """A run that is parked for it hangs, too."""
    with pytest.raises(AssertionError, match="without a crash, the run hangs: it waits for a signal: 'approved'"):
        survives_crashes(flows.everything)


def test_a_store_of_the_users_own(tmp_path: Path) -> None:
    """The runs can be kept in another store, where they can be looked at afterwards."""
    report = survives_crashes(flow, {"x": 1}, store=f"sqlite:///{tmp_path}/mine.db?synchronous=normal")
    assert len(report.points) == 4
    assert (tmp_path / "mine.db").exists()


def test_real_time() -> None:
    """Where a task waits for something real, time can be real too."""
    assert survives_crashes(flow, {"x": 1}, virtual_time=False).outcome.data == {"x": 2}


def test_what_it_cannot_work_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A workflow that another process cannot find, or cannot import, is refused with a remedy."""
    hidden = Workflow("one", name="hidden").register("one", one).add_exit_state("end")
    with pytest.raises(ConfigurationError, match="find workflow 'hidden': make it a global of a module"):
        survives_crashes(hidden)
    for wrong in ("nothing", "module:", ":attribute", 7):
        with pytest.raises(ConfigurationError, match="'module:attribute'"):
            survives_crashes(wrong)  # type: ignore[arg-type]  # one of them is wrong on purpose
    with pytest.raises(ConfigurationError, match="math:pi is not a workflow"):
        survives_crashes("math:pi")
    (tmp_path / "fragile.py").write_text(
        "import os\nif 'CANO_FRAGILE' not in os.environ: raise RuntimeError('fragile')\n"
        "from cano import Workflow\nflow = Workflow('x').add_exit_state('x')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("CANO_FRAGILE", "1")
    import fragile  # type: ignore[import-not-found]  # made just now

    monkeypatch.delenv("CANO_FRAGILE")
    with pytest.raises(
        ConfigurationError, match=r"another process cannot execute this workflow:(?s:.)*RuntimeError: fragile"
    ):
        survives_crashes(fragile.flow)


def test_reports() -> None:
    """A report is a value."""
    point = CrashPoint(1, "before", "x")
    assert CrashReport(Outcome("r", "failed", "s", {}), (point,)).points == (point,)
