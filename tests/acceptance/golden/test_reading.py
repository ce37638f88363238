"""Golden data open, and a kernel reads from them what was written."""

from __future__ import annotations

import gzip
from decimal import Decimal

import pytest
from cano import RunStatus, Transition

from tests.acceptance.golden import flows
from tests.acceptance.golden.conftest import TODAY, Copy
from tests.acceptance.golden.copies import HERE, SERIES, Golden
from tests.acceptance.golden.expected import FINISHED, RUNS, STALE, TYPED
from tests.acceptance.golden.observers import Witness
from tests.acceptance.golden.times import MINUTE, READ, WRITTEN
from tests.acceptance.golden.values import CLASSES, VALUES


async def test_runs(golden: Golden) -> None:
    """Every run is listed with its status and its history, the newest first."""
    async with golden.at(READ) as kernel:
        assert kernel.codec is not None
        kernel.codec.register(*CLASSES)
        records = await kernel.runs()
        entries = {record.run_id: await kernel.history(record.run_id) for record in records}

    found = {record.run_id: (record.workflow, record.status, record.parent) for record in records}
    assert found == {run_id: (run.workflow, run.status, run.parent) for run_id, run in golden.runs.items()}
    assert {run_id: " ".join(f"{entry.seq}:{entry.state}" for entry in entries[run_id]) for run_id in entries} == {
        run_id: run.entries for run_id, run in golden.runs.items()
    }
    for record in records:
        assert f"{record.seq}:{record.state}" == golden.runs[record.run_id].entries.split()[-1]
    created = [record.created for record in records]
    assert created == sorted(created, reverse=True)
    assert created[-1] == WRITTEN


async def test_explanations(golden: Golden) -> None:
    """Every run has a reason why it is not progressing."""
    async with golden.at(READ) as kernel:
        explained = {run_id: await kernel.explain(run_id) for run_id in golden.runs}

    assert {run_id: why.reason for run_id, why in explained.items()} == {
        run_id: run.why for run_id, run in golden.runs.items()
    }
    for run_id, why in explained.items():
        assert golden.runs[run_id].what in why.detail


async def test_findings(golden: Golden) -> None:
    """Nothing is corrupt, values included. The leases of killed processes are stale."""
    async with golden.at(READ) as kernel:
        at_first = await kernel.check()
        for run_id in golden.of(FINISHED):  # from then on the kernel knows the workflow, and checks values
            await kernel.run(flows.BY_NAME[RUNS[run_id].workflow], {}, run_id=run_id)
        findings = await kernel.check()

    assert findings == at_first
    assert {(finding.kind, finding.run_id) for finding in findings} == {
        ("stale lease", run_id) for run_id in golden.of(STALE)
    }


async def test_history(golden: Golden) -> None:
    """Each entry of a history has its time and its changes."""
    typed = [
        Transition(0, "WRITE", RunStatus.RUNNING, WRITTEN, {"given": (1, 2)}),
        Transition(1, "CHANGE", RunStatus.RUNNING, WRITTEN, {**VALUES, "draft": "to be removed"}),
        Transition(
            2, "DONE", RunStatus.SUCCEEDED, WRITTEN, {"list": [1, [2, []], 3, 4], "added": (1, 2)}, ["draft"]
        ),
    ]  # fmt: skip
    at = WRITTEN + 2 * MINUTE
    order = [
        Transition(0, "PACK", RunStatus.RUNNING, at, {"goods": ["lamp", "bulb"]}),
        Transition(1, "WRAP", RunStatus.RUNNING, at, {"packed": ["lamp", "bulb"]}),
        Transition(2, "SHIP", RunStatus.RUNNING, at, {"wrapped": "lamp, bulb"}, ["packed"]),
        Transition(3, "DONE", RunStatus.SUCCEEDED, at, {"shipped": "finished:3"}),
    ]
    expected = {"typed": typed, "finished": order}
    async with golden.at(READ) as kernel:
        for run_id in golden.of(expected):
            await kernel.run(flows.BY_NAME[RUNS[run_id].workflow], {}, run_id=run_id)
            assert _shown(await kernel.history(run_id)) == _shown(expected[run_id])


def _shown(history: list[Transition]) -> list[str]:
    """Return the entries as text, so that values of different types differ."""
    return [repr(entry._replace(changed=dict(entry.changed), removed=list(entry.removed))) for entry in history]


async def test_time_travel(golden: Golden) -> None:
    """A run can be forked at an old entry, and the fork can be resumed."""
    witness = Witness()
    async with golden.at(READ, witness) as kernel:
        await kernel.fork("typed", 1, "again")
        result = await kernel.resume(flows.typed, "again")

    assert (result.state, repr(result.data)) == ("DONE", repr(TYPED))
    assert witness.steps == {"again": ["CHANGE"]}


@pytest.mark.parametrize("store", ["004-attributes sqlite", f"{TODAY} sqlite"])
async def test_attributes(copy: Copy, store: str) -> None:
    """A run is found by the attributes that it had, and has those of its next step after that."""
    golden = copy(store)
    async with golden.at(READ) as kernel:
        found = await kernel.runs(where="tenant = acme and total > 12 and urgent = true")
        assert [run.run_id for run in found] == ["filed"]
        assert (await kernel.get("filed")).attributes == {"tenant": "acme", "total": Decimal("12.50"), "urgent": True}
        await kernel.signal("filed", "paid")
        await kernel.resume(flows.invoice, "filed")
        assert (await kernel.get("filed")).attributes == {"tenant": "zoo", "total": Decimal("12.50")}
        assert await kernel.runs(where="tenant = zoo and total = 12.5 and urgent != false").count() == 0
        assert await kernel.runs(where="tenant = zoo and total = 12.5").count() == 1


FORMS = (
    b"\0retry", b"\0error", b"\0definition", b"\0carried", b"\0deadline", b"\0outcome", b"\0branch 1 0:first",
    b"\0cancel 1",
)  # fmt: skip


def test_forms() -> None:
    """The first of the series has every form that the engine stored beside the data then."""
    content = gzip.decompress((HERE / SERIES[0] / "sqlite.db.gz").read_bytes())
    assert [form for form in FORMS if form not in content] == []


@pytest.mark.parametrize("name", SERIES)
def test_layers(name: str) -> None:
    """The stores with a layer have been written through it."""
    long = VALUES["long"].encode()
    found = {
        kind: long in gzip.decompress(path.read_bytes())
        for kind in ("sqlite", "zstd", "encrypt", "offload")
        if (path := HERE / name / f"{kind}.db.gz").exists()
    }
    assert found
    assert [kind for kind, plain in found.items() if plain] == ["sqlite"] * ("sqlite" in found)
