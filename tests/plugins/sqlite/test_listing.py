"""Lists: frequent queries do not slow down with the number of finished runs, of parked ones and of signals."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import pytest
from cano import Retention, RunFilter, RunRecord, RunStatus, Signal, Wait
from cano.testing.contract_base import NOW, free_run, new_run
from cano_sqlite import SqliteBackend, audit, news, pruning, reading, signals, snapshot

Ask = Callable[..., list[Any]]
VALUES = {
    "now": NOW, "workflow": "flow 1", "status": "failed", "parent": "p", "limit": 9, "before": NOW, "age": 9,
    "created": NOW, "run_id": "1", "keep": 9, "newest": NOW, "newest_id": "1", "until": 9, "after": 3,
    "mark": 9, "first": 9, "seq": 1, "run": 1, "state": "A", "created_after": NOW - 9, "created_before": NOW,
    "workflows": '["flow 1"]', "updated_after": NOW - 9, "updated_before": NOW,
}  # fmt: skip

OF_ROWS = (
    "SCAN runs USING INDEX runs_by_age",
    "SCAN (subquery",
    "SCAN names",
    "SCAN chain",
    "SCAN CONSTANT ROW",
    "SCAN json_each VIRTUAL TABLE",
    "SCAN audit USING INDEX audit_by_age",
)
"""Scans of an index up to the limit, and of what a part of the query has found."""


# half of the runs are parked and half have succeeded, and every tenth is a child
_NUMBERS = "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 10000) "
_FILL = (
    """
    INSERT INTO runs SELECT n, n, CASE n % 10 WHEN 0 THEN n / 100 END, n, n, CASE n % 2 WHEN 1 THEN 'parked' ELSE
        'succeeded' END, 0, n, 0, 1, NULL, NULL, 0, CASE n % 2 WHEN 1 THEN 9e9 END,
        CASE n % 2 WHEN 1 THEN 'go' END, 0""",
    "INSERT INTO definitions SELECT n, 'flow ' || (n % 10), '1', 'f1', n",
    "INSERT INTO signals (run_id, signal, name) SELECT n, '1', 'other'",
    "INSERT INTO audit (run_id, action, actor, at, detail) SELECT n / 10, 'signal', 'ada', n, ''",
)


async def test_polls_and_lists_read_an_index(store: SqliteBackend, ask: Ask) -> None:
    """Among 10,000 runs and signals, after ANALYZE, no poll and no list scans a table, nor sorts a list."""
    for statement in _FILL:
        table, _, values = statement.partition("SELECT")
        ask(f"{table}{_NUMBERS}SELECT{values} FROM numbers")
    ask("ANALYZE")
    prunes = [
        pruning.TRANSITION,
        pruning.DISCARD_OLDER,
        pruning.AGED,
        pruning.WORKFLOWS,
        pruning.MANY,
        pruning.FIRST_TOO_MANY,
        pruning.TOO_MANY,
    ]
    more = [(), ("state",), ("created_after",), ("created_before", "updated_before"), tuple(reading._MORE)]
    lists = [reading.listing(*fields, after, names) for *fields, after, names in product(*[(True, False)] * 5, more)]
    others = [
        snapshot.PART,
        snapshot.NEXT_MARK,
        news.NEWEST,
        news.ENDED,
        news.SIGNALLED,
        news.NOTED,
        audit.LISTED,
        audit.OF_RUN,
    ]
    for question in (
        reading.READY,
        reading.READY_OF_WORKFLOWS,
        signals.OLDEST,
        signals.ANSWERED,
        *others,
        *prunes,
        *lists,
    ):
        used: Any = {name: value for name, value in VALUES.items() if f":{name}" in question}
        plan = [
            row[3]
            for row in ask(
                "EXPLAIN QUERY PLAN " + question, *([used] if used else ("1", "go", False)[: question.count("?")])
            )
        ]

        assert plan
        assert "TEMP B-TREE FOR ORDER BY" not in str(plan), plan  # only among runs of the same time
        assert [step for step in plan if step.startswith("SCAN") and not step.startswith(OF_ROWS)] == [], plan
    everything = reading.listing(workflow=False, status=False, parent=False)
    assert "SCAN runs USING INDEX runs_by_age" in str(ask("EXPLAIN QUERY PLAN " + everything, {"limit": 9}))


async def test_counting_what_is_kept_reads_no_run(store: SqliteBackend, ask: Ask) -> None:
    """Whether a workflow has more runs than are kept, the index alone tells."""
    for statement in _FILL[:2]:
        table, _, values = statement.partition("SELECT")
        ask(f"{table}{_NUMBERS}SELECT{values} FROM numbers")
    plan = ask("EXPLAIN QUERY PLAN " + pruning.MANY, {"workflow": "flow 1", "keep": 9})
    assert "COVERING INDEX runs_by_workflow" in plan[0][3]
    statements = list[str]()

    def expired(connection: sqlite3.Connection, *arguments: Any, **more: Any) -> list[RunRecord]:
        connection.set_trace_callback(statements.append)
        try:
            return honest(connection, *arguments, **more)
        finally:
            connection.set_trace_callback(None)

    honest = pruning.expired
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pruning, "expired", expired)
        assert await store.expired(Retention(keep_last=1000), NOW, 9) == []
        assert statements
        assert not any("CROSS JOIN runs" in statement for statement in statements)
        found = await store.expired(Retention(keep_last=999), NOW, 9)
    assert [run.run_id for run in found] == ["2", "4", "6", "8", "10"]  # one of each workflow


async def test_each_filter_reads_the_shortest_index(store: SqliteBackend, ask: Ask) -> None:
    """Children are few, a status is shared by few runs unless it is that of success, and a workflow by some."""
    expected: dict[str, list[tuple[bool, ...]]] = {
        "runs_by_parent": [(True, True, True), (False, True, True), (True, False, True), (False, False, True)],
        "runs_by_status": [(False, True, False), (True, True, False)],
        "runs_by_workflow": [(True, False, False), (True, True, False, True)],
    }
    for index, filters in expected.items():
        for fields, names in product(filters, ((), ("state", "updated_after"), tuple(reading._MORE))):
            question = reading.listing(*fields, more=names)
            used = {name: value for name, value in VALUES.items() if f":{name}" in question}
            first = ask("EXPLAIN QUERY PLAN " + question, used)[0][3]
            assert index in first, (fields, first)
            if "created_after" in names:
                assert "created>?" in first, (fields, first)  # the index is read from there


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


async def test_a_short_query_does_not_wait_for_a_list(store: SqliteBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a list is read, a run is loaded and its signals are found."""
    await store.create(new_run("run"))
    reading_list, go_on = asyncio.Event(), threading.Event()
    loop, honest = asyncio.get_running_loop(), reading.runs

    def slow(connection: sqlite3.Connection, filter: RunFilter) -> Sequence[RunRecord]:
        loop.call_soon_threadsafe(reading_list.set)
        assert go_on.wait(20)
        return honest(connection, filter)

    monkeypatch.setattr(reading, "runs", slow)
    listing = asyncio.ensure_future(store.runs(RunFilter()))
    try:
        await reading_list.wait()
        async with asyncio.timeout(10):
            assert await store.load("run") == new_run("run")
            assert await store.next_signal("run", "go") is None
            assert await store.ready(NOW) == []
        assert not listing.done()
    finally:
        go_on.set()
    assert [run.run_id for run in await listing] == ["run"]
