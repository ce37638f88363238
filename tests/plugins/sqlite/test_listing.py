"""Lists: frequent queries do not slow down with the number of finished runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from cano import RunFilter, RunStatus, Signal, Wait
from cano.testing.contract_base import NOW, free_run, new_run
from cano_sqlite import SqliteBackend, reading

Ask = Callable[..., list[Any]]


@pytest.mark.parametrize("question", [reading.READY, reading.BY_STATUS, reading.BY_PARENT])
async def test_indexes_are_used(store: SqliteBackend, ask: Ask, question: str) -> None:
    """`ready`, a list of one status, and a list of one run's children do not scan all runs."""
    values = {"now": NOW, "workflow": None, "status": "failed", "parent": "p", "limit": 9}
    used = {name: value for name, value in values.items() if f":{name}" in question}
    plan = [row[3] for row in ask("EXPLAIN QUERY PLAN " + question, used)]

    assert plan
    assert [step for step in plan if step.startswith("SCAN") and "runs" in step] == []


async def test_the_newest_come_first_without_sorting(store: SqliteBackend, ask: Ask) -> None:
    """A short list of all runs does not sort them."""
    plan = ask("EXPLAIN QUERY PLAN " + reading.ALL, {"workflow": None, "limit": 1})

    assert "USE TEMP B-TREE" not in str(plan)


async def test_many_runs(store: SqliteBackend) -> None:
    """Among many runs, the few matching ones are found."""
    runs = [free_run(str(n), status=RunStatus.SUCCEEDED, parent=str(n // 100), created=NOW + n) for n in range(2000)]
    await asyncio.gather(*map(store.create, runs))
    waits = Wait(then="B", signal="go", until=NOW + 1)
    await store.create(free_run("waits", status=RunStatus.PARKED, wait=waits))
    await store.create(new_run("held"))
    assert await store.ready(NOW) == []

    await store.put_signal("waits", Signal("1", "go"))
    assert [run.run_id for run in await store.ready(NOW)] == ["waits"]
    assert [run.run_id for run in await store.runs(RunFilter(status=RunStatus.RUNNING))] == ["held"]
    assert [run.run_id for run in await store.runs(RunFilter(parent="3", limit=2))] == ["399", "398"]
    assert [run.run_id for run in await store.runs(RunFilter(limit=1))] == ["1999"]
    assert await store.runs(RunFilter(limit=-1)) == []
