"""Lists: frequent queries do not slow down with the number of finished runs, of parked ones and of signals."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from cano import Retention, RunFilter, RunRecord, RunStatus, Signal, Wait
from cano.run_filter import ORDERS
from cano.search_attributes import encoded, ranges
from cano.testing.contract_base import NOW, free_run, new_run
from cano_msgspec.packing import pack_extra
from cano_sqlite import SqliteBackend, attributes, audit, leases, news, pruning, reading, signals, snapshot

from tests.plugins.filtered_lists import check_first_page

Ask = Callable[..., list[Any]]
VALUES = {
    "now": NOW, "workflow": "flow 1", "status": "failed", "parent": "p", "limit": 9, "before": NOW, "age": 9,
    "created": NOW, "run_id": "1", "keep": 9, "newest": NOW, "newest_id": "1", "until": 9, "after": 3,
    "mark": 9, "first": 9, "seq": 1, "run": 1, "state": "A", "created_after": NOW - 9, "created_before": NOW,
    "workflows": '["flow 1"]', "updated_after": NOW - 9, "updated_before": NOW, "held": True, "error": "E",
}  # fmt: skip
MORE = tuple(name for name in reading.MORE if name != "outcome")

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
        CASE n % 2 WHEN 1 THEN 'go' END, 0, NULL, NULL, NULL, NULL, NULL, CASE n % 2 WHEN 0 THEN 'A' END, NULL, NULL""",
    "INSERT INTO definitions SELECT n, 'flow ' || (n % 10), '1', 'f1', n",
    "INSERT INTO signals (run_id, signal_id, name) SELECT n, '1', 'other'",
    """INSERT INTO attributes
        SELECT n, 'tenant', CAST('s' || CASE WHEN n % 3 THEN 'most' ELSE n % 1000 END AS BLOB), n""",
    "INSERT INTO attributes SELECT n, 'amount', CAST('n3' || (50000 + n) AS BLOB), n",
    "INSERT INTO audit (run_id, action, actor, at, detail) SELECT n / 10, 'signal', 'ada', n, ''",
)


def fill(ask: Ask, statements: Sequence[str] = _FILL) -> None:
    """Add 10,000 rows with each of the statements."""
    for statement in statements:
        table, _, values = statement.partition("SELECT")
        ask(f"{table}{_NUMBERS}SELECT{values} FROM numbers")


def plan_of(ask: Ask, question: str, values: Mapping[str, Any]) -> list[str]:
    """Return how SQLite would answer a question, with those of the values that it names."""
    used = {name: value for name, value in values.items() if f":{name}" in question}
    return [row[3] for row in ask("EXPLAIN QUERY PLAN " + question, used)]


async def every_run(store: SqliteBackend) -> list[RunRecord]:
    """Return all runs, each with the tenant that `fill` gives it."""
    return [
        run._replace(attributes={"tenant": encoded("most" if int(run.run_id) % 3 else str(int(run.run_id) % 1000))})
        for run in await store.runs(RunFilter())
    ]


async def test_polls_and_lists_read_an_index(store: SqliteBackend, ask: Ask) -> None:
    """Among 10,000 runs and signals, after ANALYZE, no poll and no list scans a table, nor sorts a list."""
    fill(ask)
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
    more = [(), ("state",), ("created_after",), ("created_before", "updated_before"), MORE]
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
        leases.READY,
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


async def test_searches_read_an_index(store: SqliteBackend, ask: Ask, path: Path) -> None:
    """Among 10,000 runs with attributes, after ANALYZE, no list and no count by them scans a table.

    Where many runs have the attribute, the list is not sorted: it is read from the index, newest first.
    """
    fill(ask)
    ask("ANALYZE")
    rare, most = (ranges("=", [encoded(tenant)]) for tenant in ("9", "most"))
    some, few = ranges(">=", [b"n350000"]), ranges(">", [b"n359900"])
    fields: list[dict[str, Any]] = [
        {}, {"status": RunStatus.FAILED}, {"status": RunStatus.SUCCEEDED}, {"workflow": "flow 1"}, {"parent": "p"},
        {"workflow": "flow 1", "status": RunStatus.SUCCEEDED, "state": "A", "updated_after": 9.0},
        {"after": (9.0, "1")},
        {"status": RunStatus.PARKED, "created_before": 99.0, "parent": "p", "limit": 3},
    ]  # fmt: skip
    wanted: list[tuple[Any, str, bool]] = [  # what is read first, and whether that is in the order of the list
        ({"tenant": rare}, "attributes_by_value (name=? AND value=?", True),
        ({"tenant": most}, "attributes_by_value (name=? AND value=?", True),
        ({"tenant": most, "amount": some}, "attributes_by_value (name=? AND value=?", True),
        ({"tenant": most, "amount": few}, "attributes_by_value (name=? AND value>? AND value<?", False),
        ({"amount": few}, "attributes_by_value (name=? AND value>? AND value<?", False),
        ({"amount": some}, "", True),
    ]
    connection = sqlite3.connect(path)
    try:
        for (these, index, ordered), more in product(wanted, fields):
            filter = RunFilter(attributes=these)._replace(**more)
            found, counted = (attributes.search(connection, filter, ordered=each) for each in (True, False))
            assert found is not None
            assert counted is not None
            lists, counts = reading.question(filter, found.condition, found.also), attributes.counting(filter, counted)
            for (question, its), how in ((lists, found), (counts, counted)):
                plan = plan_of(ask, question, {**its, **how.values})
                scans = [step for step in plan if step.startswith("SCAN") and not step.startswith(OF_ROWS)]
                assert scans == [], (question, plan)
                if "status" not in more and "parent" not in more:
                    assert index in plan[0], plan
                if ordered:
                    assert "TEMP B-TREE FOR ORDER BY" not in str(plan), plan
            listed = await store.runs(filter)
            assert await store.count(filter) == len(listed)
    finally:
        connection.close()
    names = str(ask("EXPLAIN QUERY PLAN " + attributes.NEXT_NAME, "", b""))
    assert "SEARCH attributes USING COVERING INDEX attributes_by_value ((name,value)>(?,?))" in names
    everything, _ = attributes.counting(RunFilter(), attributes.Search(None, {}))
    assert "COVERING INDEX" in str(ask("EXPLAIN QUERY PLAN " + everything))


async def test_times_of_ended_runs_read_an_index(store: SqliteBackend, ask: Ask, path: Path) -> None:
    """Among 10,000 runs, lists and counts of few ended ones by the time of their update read its index, and match.

    A count by a status and such times reads the index alone, however many there are.
    """
    fill(ask)
    ask("UPDATE runs SET status = 'failed', wake = NULL, outcome = 'A' WHERE id % 10 = 1")
    ask("UPDATE runs SET status = 'succeeded', wake = NULL, outcome = 'A' WHERE id % 10 <> 1 AND id < 9000")
    ask("INSERT INTO journal SELECT id, id, 0, seq, 'A', status, updated, NULL, x'' FROM runs")
    ask("ANALYZE")
    rare = {"tenant": ranges("=", [encoded("most")])}
    fields: list[dict[str, Any]] = [
        {}, {"status": RunStatus.FAILED}, {"status": RunStatus.SUCCEEDED}, {"workflow": "flow 1"},
        {"workflow": "flow 1", "status": RunStatus.FAILED, "state": "A", "created_before": 9900.0},
        {"attributes": rare}, {"attributes": rare, "status": RunStatus.FAILED, "after": (9800.0, "9")},
        {"status": RunStatus.FAILED, "limit": 3},
    ]  # fmt: skip
    times: list[dict[str, Any]] = [
        {"updated_after": 9000.0}, {"updated_after": 8000.0, "updated_before": 8100.0}, {"updated_before": 0.0},
    ]  # fmt: skip
    connection = sqlite3.connect(path)
    try:
        for some, when in product(fields, times):
            filter = RunFilter()._replace(**some, **when)
            lists, counts = (attributes.search(connection, filter, ordered=each) for each in (True, False))
            assert lists is not None
            assert counts is not None
            for (question, its), how in (
                (reading.question(filter, "", lists.also, lists.lately), lists),
                (attributes.counting(filter, counts), counts),
            ):
                plan = str(plan_of(ask, question, {**its, **how.values}))
                assert "runs_by_update (status=? AND updated" in plan, plan
                assert "SCAN runs" not in plan, plan
                assert "runs_by_age" not in plan, plan
            every = await store.runs(filter._replace(updated_after=None, updated_before=None, limit=None))
            expected = [run.run_id for run in every if RunFilter()._replace(**when).matches(run)][: filter.limit]
            assert [run.run_id for run in await store.runs(filter)] == expected
            assert await store.count(filter) == len(expected)
            assert bool(expected) == (when != {"updated_before": 0.0})
        for status in (None, RunStatus.SUCCEEDED):
            filter = RunFilter(status=status, updated_after=9.0)
            question, its = attributes.counting(filter, attributes.Search(None, {}))
            plan = str(plan_of(ask, question, its))
            assert "COVERING INDEX runs_by_update" in plan, plan
            assert "SCAN runs" not in plan, plan
            assert attributes.search(connection, filter) == attributes.Search(None, {})  # many: the list's own index
    finally:
        connection.close()


async def test_ordered_lists_read_an_index(store: SqliteBackend, ask: Ask, path: Path) -> None:
    """Among 10,000 runs, a list in any order reads an index in that order, whatever else its filter has.

    Only the few runs with an attribute, or of a parent, are sorted in place of a walk through those that have ended.
    """
    fill(ask)
    ask("UPDATE runs SET updated = id * 7919 % 10007")
    ask("UPDATE runs SET status = 'failed', wake = NULL, outcome = 'A' WHERE id % 10 = 1")
    ask("INSERT INTO journal SELECT id, id, 0, seq, 'A', status, updated, NULL, x'' FROM runs")
    ask("ANALYZE")
    rare, most = ({"tenant": ranges("=", [encoded(tenant)])} for tenant in ("9", "most"))
    fields: list[tuple[dict[str, Any], bool]] = [
        ({}, False), ({"workflow": "flow 1"}, False), ({"attributes": most}, False), ({"attributes": rare}, True),
        ({"parent": "1"}, True), ({"after": (500.0, "9")}, False), ({"updated_after": 900.0, "state": "A"}, True),
        ({"workflow": "flow 1", "attributes": most, "after": (500.0, "9"), "created_before": 9000.0}, False),
    ]  # fmt: skip
    everything = await every_run(store)
    connection = sqlite3.connect(path)
    try:
        for order, status, (more, few) in product(ORDERS, (RunStatus.FAILED, RunStatus.SUCCEEDED), fields):
            wanted = RunFilter(status=status, order=order)._replace(**more)
            found = attributes.search(connection, wanted)
            assert found is not None
            question, its = reading.question(wanted, found.condition, found.also, found.lately)
            plan = str(plan_of(ask, question, {**its, **found.values}))
            assert "SCAN runs" not in plan, plan
            if wanted.by_update and not few:
                assert "runs_by_update (status=?" in plan, plan
            if not few and wanted.updated_after is None:
                assert "TEMP B-TREE FOR ORDER BY" not in plan, plan
            await check_first_page(store, wanted, everything)
    finally:
        connection.close()


async def test_outcomes_read_an_index(store: SqliteBackend, ask: Ask, path: Path) -> None:
    """Among 10,000 runs, lists and counts of ended ones by state or error read an index, and match.

    Runs of a state are read in the order of the list, and counted without a look at them. Few with an error are read
    and sorted; many are a large part of those that have failed.
    """
    fill(ask)
    ask("""UPDATE runs SET status = iif(id % 10 = 1, 'succeeded', 'failed'), wake = NULL, updated = id * 7919 % 10007,
        outcome = iif(id % 4, 'A', 'B' || (id % 1000)), error = iif(id % 10 = 1, NULL, 'E0'),
        cause = iif(id % 100 = 50, 'C', NULL)""")
    ask("INSERT INTO journal SELECT id, id, 0, seq, outcome, status, updated, NULL, x'' FROM runs")
    for cause in (None, "C"):
        error = pack_extra({"type": "E0", "cause": cause}, None, None)
        ask(
            "UPDATE journal SET extra = ? WHERE id IN (SELECT id FROM runs WHERE error = 'E0' AND cause IS ?)",
            error,
            cause,
        )
    ask("ANALYZE")
    everything = await every_run(store)
    most: dict[str, Any] = {"attributes": {"tenant": ranges("=", [encoded("most")])}}
    failed, succeeded = {"status": RunStatus.FAILED}, {"status": RunStatus.SUCCEEDED}
    by_error = "INDEX runs_by_error (error=?)"
    wanted: list[tuple[dict[str, Any], dict[str, Any], str]] = [
        ({**failed, "state": "B100"}, {}, "runs_by_outcome (status=? AND outcome=?"),
        ({**failed, "state": "A"}, {"workflow": "flow 2"}, "runs_by_outcome (status=? AND outcome=?"),
        ({**succeeded, "state": "A"}, {"workflow": "flow 1"}, "runs_by_outcome (status=? AND outcome=?"),
        ({**failed, "state": "A"}, {"parent": "1"}, "runs_by_parent"), ({**failed, "error": "none"}, {}, by_error),
        ({**failed, "error": "C"}, {"state": "A"}, by_error), ({**failed, "error": "C"}, most, by_error),
        ({**failed, "error": "E0"}, {"workflow": "flow 2"}, "runs_by_status (status=?"),
    ]  # fmt: skip
    connection = sqlite3.connect(path)
    try:
        for order, (outcome, more, index) in product(ORDERS, wanted):
            filter_ = RunFilter(order=order)._replace(**outcome, **more)
            found, counted = (attributes.search(connection, filter_, ordered=each) for each in (True, False))
            assert found is not None
            assert counted is not None
            lists = reading.question(filter_, found.condition, found.also, found.lately)
            for (question, its), how in ((lists, found), (attributes.counting(filter_, counted), counted)):
                plan = str(plan_of(ask, question, {**its, **how.values}))
                assert "SCAN runs" not in plan, plan
                if not filter_.by_update:
                    assert index in plan, plan
                if index.startswith("runs_by_outcome") and not filter_.by_update:
                    assert "TEMP B-TREE FOR ORDER BY" not in plan, plan
            found_any = await check_first_page(store, filter_, everything)
            assert found_any == (outcome.get("error") != "none")
    finally:
        connection.close()
    fields: list[dict[str, Any]] = [{"state": "A"}, {"error": "E0"}]
    for more in fields:
        question, its = attributes.counting(
            RunFilter(status=RunStatus.FAILED)._replace(**more), attributes.Search(None, {})
        )
        plan = str(plan_of(ask, question, its))
        assert "COVERING INDEX" in plan, plan


async def test_counting_what_is_kept_reads_no_run(store: SqliteBackend, ask: Ask) -> None:
    """Whether a workflow has more runs than are kept, the index alone tells."""
    fill(ask, _FILL[:2])
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
        for fields, names in product(filters, ((), ("state", "updated_after"), MORE)):
            question = reading.listing(*fields, more=names)
            first = plan_of(ask, question, VALUES)[0]
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
        assert go_on.wait(100)
        return honest(connection, filter)

    monkeypatch.setattr(reading, "runs", slow)
    listing = asyncio.ensure_future(store.runs(RunFilter()))
    try:
        await reading_list.wait()
        async with asyncio.timeout(60):
            assert await store.load("run") == new_run("run")
            assert await store.next_signal("run", "go") is None
            assert await store.ready(NOW) == []
        assert not listing.done()
    finally:
        go_on.set()
    assert [run.run_id for run in await listing] == ["run"]


async def test_a_step_makes_no_table(store: SqliteBackend, ask: Ask) -> None:
    """No condition of an index makes a table of its values in each step, as `IN` with three values does."""
    step = "EXPLAIN UPDATE runs SET seq = 1, head = 1, updated = 1, tail = tail + 1 WHERE id = 1"

    assert "OpenEphemeral" not in {operation[1] for operation in ask(step)}
    ask("CREATE INDEX slow ON runs (updated) WHERE status IN ('cancelled', 'failed', 'succeeded')")
    assert "OpenEphemeral" in {operation[1] for operation in ask(step)}
