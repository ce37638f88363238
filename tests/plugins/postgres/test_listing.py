"""Lists: frequent queries do not slow down with the number of finished runs, of parked ones and of signals."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from hashlib import sha256
from itertools import product
from typing import Any

import psycopg
import pytest
from cano import Lane, RunFilter, RunRecord, RunStatus, Signal, Wait
from cano.run_filter import ORDERS
from cano.search_attributes import encoded, ranges
from cano.testing.contract_base import FLOW, LATER, NOW, free_run, new_run, step
from cano_durability.stores.lanes import class_of, statuses_of
from cano_msgspec.packing import pack_extra, unpack_changes
from cano_postgres import PostgresBackend, attributes, audit, leases, pruning, queues, reading, signals, streams
from cano_postgres.connection import prepare_reader
from psycopg import sql

from tests.plugins.filtered_lists import check_first_page
from tests.plugins.history_pages import check_pages_are_read_alone

Ask = Callable[..., list[Any]]
Explain = Callable[[Any], Awaitable[str]]
VALUES = {
    "now": NOW, "workflow": "flow 1", "status": "failed", "parent": "p", "limit": 9, "run_id": "1", "id": "1",
    "name": b"go", "before": NOW, "age": 9.0, "created": NOW, "keep": 9, "after": 3,
    "state": "A", "created_after": NOW - 9, "created_before": NOW, "updated_after": NOW - 9, "updated_before": NOW,
    "workflows": ["flow 1", "flow 2"], "versions": ["1", "1"], "fingerprints": ["f", "f"], "skip": ["7"],
    "holder": "me", "expires": LATER, "mark": 1, "error": "E", "held": True, "queues": ["default", "mail"],
    "turn_priorities": [0], "turn_classes": [1], "turn_keys": ["a"],
}  # fmt: skip
MORE = tuple(name for name in reading.MORE if name != "outcome")
WAIT = Wait(then="B", signal="go", until=LATER)
# half of the runs are parked and half have succeeded, and every tenth is a child
_FILL_RUNS = """
    INSERT INTO runs (run_id, workflow, version, fingerprint, parent, created, updated, state, status, seq, head,
        folded, tail, token, wake, awaited)
    SELECT n::text, 'flow ' || n %% 10, '1', 'f1', CASE n %% 10 WHEN 0 THEN (n / 100)::text END, %s + n, n, 'A',
        CASE n %% 2 WHEN 1 THEN 'parked' ELSE 'succeeded' END, 0, 1, 0, 1, 0, CASE n %% 2 WHEN 1 THEN %s END,
        CASE n %% 2 WHEN 1 THEN 'go'::bytea END
    FROM generate_series(1, 10000) AS n"""
_FILL_SIGNALS = """
    INSERT INTO signals (run_id, signal_id, name) SELECT n::text, '1', 'other' FROM generate_series(1, 10000) AS n"""


@pytest.fixture
def explain(url: str, store: PostgresBackend) -> Explain:
    """The plan of a query, as a reading connection keeps it for all values."""

    async def plan(question: Any, *given: Any) -> str:
        known = VALUES | given[0] if given and isinstance(given[0], dict) else VALUES
        values = [known[name] for name in re.findall(r"%\((\w+)\)s", question)] or given
        numbers = iter(range(1, 99))
        text = re.sub(r"%(\(\w+\))?s", lambda _: f"${next(numbers)}", question)
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await prepare_reader(connection, store._settings)
            await connection.execute(f"PREPARE asked AS {text}", prepare=False)
            literals = sql.SQL(", ").join(sql.Literal(value) for value in values)
            given_values = sql.SQL("({})").format(literals) if values else sql.SQL("")
            cursor = await connection.execute(sql.SQL("EXPLAIN EXECUTE asked {}").format(given_values))
            return "\n".join(line for (line,) in await cursor.fetchall())

    return plan


def stored_of(filter: RunFilter) -> str:
    """Return the first status in the rows that a filter means."""
    return statuses_of(filter)[0]


async def test_polls_and_lists_read_an_index(store: PostgresBackend, ask: Ask, explain: Any) -> None:
    """Among 10,000 runs and signals, after ANALYZE, no poll and no list scans a table, nor sorts a list."""
    ask(_FILL_RUNS, NOW, NOW + 1e9)
    ask(_FILL_SIGNALS)
    ask("""INSERT INTO audit (run_id, action, actor, at, detail)
        SELECT (n / 10)::text, 'signal', 'ada', n, '' FROM generate_series(1, 10000) AS n""")
    ask("ANALYZE")
    for plan in (await explain(audit.LISTED, 9), await explain(audit.OF_RUN, "1", 9)):
        assert "Index Scan" in plan
        assert "Sort" not in plan
    ready, claim = await explain(reading.READY), await explain(leases.CLAIM_READY)
    for plan in (ready, claim):
        for index in ("runs_to_wake", "runs_running"):  # read from the place of each workflow
            assert re.search(rf"using {index}[^\n]*\n *Index Cond: \(\(?workflow = ANY", plan), plan
    for plan in (
        ready,
        claim,
        await explain(signals.OLDEST, "1", b"go", False),
        await explain(signals.ANSWERED, ["1"]),
    ):
        assert "Seq Scan" not in plan
    assert "Seq Scan" not in await explain(reading.HISTORY)
    assert "Seq Scan" not in await explain(pruning.DISCARD)
    for plan in [await explain(pruning.AGED), await explain(pruning.TOO_MANY)]:
        assert "Seq Scan" not in plan
        assert "runs_by_status" in plan or "runs_by_workflow" in plan
    more = [(), ("state", "updated_after"), ("created_after",), MORE]
    for workflow, status, parent, often, names in product(*[(True, False)] * 4, more):
        plan = await explain(reading.listing(workflow, status, parent, often, more=names))
        index = (
            "runs_by_parent" if parent
            else "runs_by_status" if status and not (workflow and often)
            else "runs_by_workflow" if workflow
            else "runs_by_age"
        )  # fmt: skip
        assert re.findall(r"Scan .*using (\w+)|(\w+) Scan on", plan) == [(index, "")], plan
        assert "Sort  (" not in plan.replace("Incremental Sort", ""), plan  # only among runs of the same time


async def test_streams_read_an_index(ask: Ask, explain: Any) -> None:
    """Among 100 runs with 200 chunks each, after ANALYZE, a part of a stream is read from its place, in its order.

    The names of channels are found from one to the next, not by reading all chunks of the run.
    """
    ask(_FILL_RUNS, NOW, NOW + 1e9)
    ask("""INSERT INTO chunks (run, channel, first, last, value)
        SELECT id, convert_to('x' || n %% 2, 'UTF8'), n, n, '' FROM runs, generate_series(1, 200) AS n
        WHERE id %% 100 = 0""")
    ask("ANALYZE")
    read = await explain(streams.READ, "100", sha256(b"x1").digest(), 9, 100)
    conditions = re.findall(r"Index Cond: (.*)", read)
    assert any("run =" in each and "sha256(channel) =" in each and "last >" in each for each in conditions), read
    assert "Sort" not in read
    names = await explain(streams.CHANNELS, "100")
    assert re.search(r"Index Cond: \(\(run = .*sha256\(channel\) > ", names), names
    for plan in (read, names):
        assert "Seq Scan" not in plan, plan


async def test_searches_read_an_index(store: PostgresBackend, ask: Ask, explain: Any, url: str) -> None:
    """Among 10,000 runs with attributes, after ANALYZE, no list and no count by them scans a table.

    Where many runs have the attribute, the list is not sorted: it is read from the index, newest first.
    """
    ask(_FILL_RUNS, NOW, NOW + 1e9)
    ask("""INSERT INTO attributes SELECT id, 'tenant',
        convert_to(CASE WHEN id %% 3 > 0 THEN 'smost' ELSE 's' || id %% 1000 END, 'UTF8'), created FROM runs""")
    ask("INSERT INTO attributes SELECT id, 'amount', convert_to('n3' || 50000 + id, 'UTF8'), created FROM runs")
    ask("ANALYZE")
    rare, most = (ranges("=", [encoded(tenant)]) for tenant in ("9", "most"))
    some, few = ranges(">=", [b"n350000"]), ranges(">", [b"n359900"])
    fields: list[dict[str, Any]] = [
        {}, {"status": RunStatus.FAILED}, {"status": RunStatus.SUCCEEDED}, {"workflow": "flow 1"}, {"parent": "p"},
        {"workflow": "flow 1", "status": RunStatus.SUCCEEDED, "state": "A", "updated_after": 9.0, "limit": 9},
        {"status": RunStatus.RUNNING, "after": (NOW, "1")}, {"status": RunStatus.PARKED, "created_before": NOW},
    ]  # fmt: skip
    wanted: list[tuple[Any, bool]] = [
        ({"tenant": rare}, True), ({"tenant": most}, True), ({"tenant": most, "amount": some}, True),
        ({"tenant": most, "amount": few}, False), ({"amount": few}, False), ({"amount": some}, True),
    ]  # fmt: skip
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await prepare_reader(connection, store._settings)
        for (these, ordered), more in product(wanted, fields):
            filter = RunFilter(attributes=these)._replace(**more)
            for listed in (True, False):
                found = await attributes.search(connection, filter, ordered=listed)
                assert found is not None
                question, its = (attributes.question if listed else attributes.counting)(
                    filter, found, stored_of(filter)
                )
                plan = await explain(question, its)
                assert "Seq Scan" not in plan, plan
                assert "Hash" not in plan, plan
                if ordered and listed and filter.status is not RunStatus.RUNNING:  # which is read workflow by workflow
                    assert "Sort  (" not in plan.replace("Incremental Sort", ""), plan
            assert await store.count(filter) == len(await store.runs(filter))
    for question in (attributes.NAMES, attributes.few("a.name = %(name)s")):
        plan = await explain(question, *([{"name": "tenant"}] if "%(name)s" in question else []))
        assert "Index Only Scan using attributes_by_value" in plan
        assert "Seq Scan" not in plan


async def test_times_of_ended_runs_read_an_index(store: PostgresBackend, ask: Ask, explain: Any, url: str) -> None:
    """Among 10,000 runs, lists and counts of few ended ones by the time of their update read its index, and match.

    A count by such times, and at most a status, reads the index however many there are.
    """
    ask(_FILL_RUNS, NOW, NOW + 1e9)
    ask("UPDATE runs SET status = 'failed', wake = NULL WHERE id %% 10 = 1")
    ask("UPDATE runs SET status = 'succeeded', wake = NULL WHERE id %% 10 <> 1 AND id < 9000")
    ask("INSERT INTO attributes SELECT id, 'tenant', convert_to('smost', 'UTF8'), created FROM runs WHERE id %% 3 > 0")
    ask("VACUUM ANALYZE")
    most = {"tenant": ranges("=", [encoded("most")])}
    fields: list[dict[str, Any]] = [
        {}, {"status": RunStatus.FAILED}, {"status": RunStatus.SUCCEEDED}, {"workflow": "flow 1"},
        {"workflow": "flow 1", "status": RunStatus.FAILED, "state": "A", "created_before": NOW + 9900},
        {"attributes": most}, {"attributes": most, "status": RunStatus.FAILED, "after": (NOW + 9800, "9")},
        {"status": RunStatus.FAILED, "limit": 3},
    ]  # fmt: skip
    times: list[dict[str, Any]] = [
        {"updated_after": 9000.0}, {"updated_after": 8000.0, "updated_before": 8100.0}, {"updated_before": 0.0},
    ]  # fmt: skip
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await prepare_reader(connection, store._settings)
        for some, when in product(fields, times):
            filter = RunFilter()._replace(**some, **when)
            for make in (attributes.question, attributes.counting):
                found = await attributes.search(connection, filter, ordered=make is attributes.question)
                assert found is not None
                plan = await explain(*make(filter, found, stored_of(filter)))
                assert "runs_by_end" in plan, plan
                assert not re.search("Seq Scan|Hash|runs_by_age|runs_by_workflow|attributes_by_value", plan), plan
            every = await store.runs(filter._replace(updated_after=None, updated_before=None, limit=None))
            expected = [run.run_id for run in every if RunFilter()._replace(**when).matches(run)][: filter.limit]
            assert [run.run_id for run in await store.runs(filter)] == expected
            assert await store.count(filter) == len(expected)
            assert bool(expected) == (when != {"updated_before": 0.0})
        for status in (None, RunStatus.SUCCEEDED):
            filter = RunFilter(status=status, updated_after=9.0)
            plan = await explain(*attributes.counting(filter, attributes.Search({}), stored_of(filter)))
            assert "Index Only Scan using runs_by_end" in plan, plan
            assert "Seq Scan" not in plan, plan
            assert await attributes.search(connection, filter) == attributes.Search({})  # many: the list's own index


async def test_ordered_lists_read_an_index(store: PostgresBackend, ask: Ask, explain: Any, url: str) -> None:
    """Among 10,000 runs, a list in any order reads an index in that order, whatever else its filter has.

    Only the few runs with an attribute, or of a parent, are sorted in place of a walk through those that have ended.
    """
    ask(_FILL_RUNS, NOW, NOW + 1e9)
    ask("""UPDATE runs SET updated = id * 7919 %% 10007, wake = NULL,
        status = CASE WHEN id %% 10 = 1 THEN 'failed' ELSE status END""")
    ask("""INSERT INTO attributes SELECT id, 'tenant',
        convert_to(CASE WHEN id %% 3 > 0 THEN 'smost' ELSE 's' || id %% 1000 END, 'UTF8'), created FROM runs""")
    ask("VACUUM ANALYZE")
    rare, most = ({"tenant": ranges("=", [encoded(tenant)])} for tenant in ("9", "most"))
    fields: list[tuple[dict[str, Any], bool]] = [
        ({}, False), ({"workflow": "flow 1"}, False), ({"attributes": most}, False), ({"attributes": rare}, True),
        ({"parent": "1"}, True), ({"after": (500.0, "9")}, False), ({"updated_after": 900.0, "state": "A"}, True),
        ({"workflow": "flow 1", "attributes": most, "after": (500.0, "9"), "created_before": NOW + 9000}, False),
    ]  # fmt: skip
    everything = [
        run._replace(attributes={"tenant": encoded("most" if int(run.run_id) % 3 else str(int(run.run_id) % 1000))})
        for run in await store.runs(RunFilter())
    ]
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await prepare_reader(connection, store._settings)
        for order, status, (more, few) in product(ORDERS, (RunStatus.FAILED, RunStatus.SUCCEEDED), fields):
            wanted = RunFilter(status=status, order=order)._replace(**more)
            found = await attributes.search(connection, wanted)
            assert found is not None
            plan = await explain(*attributes.question(wanted, found, stored_of(wanted)))
            assert not re.search("Seq Scan|Hash", plan), plan
            if wanted.by_update and not few:
                assert "runs_by_end" in plan, plan
            if not few and (wanted.by_update or wanted.updated_after is None):
                assert "Sort  (" not in plan.replace("Incremental Sort", ""), plan
            await check_first_page(store, wanted, everything)


async def test_outcomes_read_an_index(store: PostgresBackend, ask: Ask, explain: Any, url: str) -> None:
    """Among 10,000 runs, lists and counts of ended ones by state or error read an index, and match.

    Runs of a state are read in the order of the list. Few with an error are read and sorted; many are a large part of
    those that have failed. A count by state and status, or by error alone, reads no run.
    """
    ask(_FILL_RUNS, NOW, NOW + 1e9)
    ask("""UPDATE runs SET status = CASE WHEN id %% 10 = 1 THEN 'succeeded' ELSE 'failed' END, wake = NULL,
        updated = id * 7919 %% 10007, state = CASE WHEN id %% 4 > 0 THEN 'A' ELSE 'B' || (id %% 1000) END,
        error = CASE WHEN id %% 10 <> 1 THEN 'E0' END, cause = CASE WHEN id %% 100 = 50 THEN 'C' END""")
    for cause in (None, "C"):
        extra = pack_extra({"type": "E0", "cause": cause}, None, None)
        ask("UPDATE runs SET extra = %s WHERE error = 'E0' AND cause IS NOT DISTINCT FROM %s", extra, cause)
    ask("INSERT INTO attributes SELECT id, 'tenant', convert_to('smost', 'UTF8'), created FROM runs WHERE id %% 3 > 0")
    ask("VACUUM ANALYZE")
    everything = [
        run._replace(attributes={"tenant": encoded("most" if int(run.run_id) % 3 else "")})
        for run in await store.runs(RunFilter())
    ]
    most: dict[str, Any] = {"attributes": {"tenant": ranges("=", [encoded("most")])}}
    failed, succeeded = {"status": RunStatus.FAILED}, {"status": RunStatus.SUCCEEDED}
    wanted: list[tuple[dict[str, Any], dict[str, Any], str]] = [
        ({**failed, "state": "B100"}, {}, "runs_by_outcome"),
        ({**failed, "state": "B100"}, {"workflow": "flow 0"}, "runs_by_outcome"),
        ({**succeeded, "state": "A"}, {"workflow": "flow 1"}, "runs_by_outcome"),
        ({**failed, "state": "A"}, {"parent": "1"}, "runs_by_parent"),
        ({**failed, "error": "none"}, {}, "runs_by_error"),
        ({**failed, "error": "C"}, {"state": "A"}, "runs_by_cause"), ({**failed, "error": "C"}, most, "runs_by_error"),
        ({**failed, "error": "E0"}, {"workflow": "flow 2"}, ""),
    ]  # fmt: skip
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await prepare_reader(connection, store._settings)
        for order, (outcome, more, index) in product(ORDERS, wanted):
            filter_ = RunFilter(order=order)._replace(**outcome, **more)
            for make in (attributes.question, attributes.counting):
                found = await attributes.search(connection, filter_, ordered=make is attributes.question)
                assert found is not None
                plan = await explain(*make(filter_, found, stored_of(filter_)))
                assert not re.search("Seq Scan|Hash", plan), plan
                assert index in plan or filter_.by_update, plan
                if index == "runs_by_outcome" and not filter_.by_update:
                    assert "Sort  (" not in plan.replace("Incremental Sort", ""), plan
            found_any = await check_first_page(store, filter_, everything)
            assert found_any == (outcome.get("error") != "none")
    fields: list[dict[str, Any]] = [{"state": "A"}, {"error": "E0"}]
    for more in fields:
        filter_ = RunFilter(status=RunStatus.FAILED)._replace(**more)
        plan = await explain(*attributes.counting(filter_, attributes.Search({}), stored_of(filter_)))
        assert "Index Only Scan" in plan, plan
        assert not re.search(r"Seq Scan|Bitmap|Index Scan", plan), plan


async def test_a_step_changes_no_index(store: PostgresBackend, ask: Ask) -> None:
    """The columns that each step updates are in no index, so that a step writes no entry; an end does."""
    await store.create(new_run("run"))
    ask("BEGIN")
    for change, entries in (("updated = updated + 1, seq = seq + 1, state = 'B'", 0), ("status = 'failed'", 1)):
        ask(f"UPDATE runs SET {change}")
        (((updates, hot),)) = ask("""SELECT pg_stat_get_xact_tuples_updated('runs'::regclass),
            pg_stat_get_xact_tuples_hot_updated('runs'::regclass)""")
        assert updates - hot == entries
    ask("ROLLBACK")


async def test_lists_of_running_runs_read_their_index(store: PostgresBackend, ask: Ask, explain: Explain) -> None:
    """The list of running runs, of a workflow or of all, reads their index from each workflow's place."""
    ask(_FILL_RUNS.replace("'succeeded'", "'running'"), NOW, NOW + 1e9)
    ask("ANALYZE")
    for workflow, after, names in product((True, False), (True, False), [(), MORE]):
        plan = await explain(reading.listing(workflow, True, False, after=after, more=names, running=True))
        assert set(re.findall(r"Scan .*using (\w+)|(\w+) Scan on runs", plan)) == {("runs_running", "")}, plan
        assert workflow or re.search(r"Index Cond: \(\(?workflow = names.name", plan), plan
    found = await store.runs(RunFilter(status=RunStatus.RUNNING, limit=9))
    assert [run.run_id for run in found] == [str(number) for number in range(10000, 9982, -2)]


@pytest.mark.parametrize("first", ["signal", "parking", "creation"])
async def test_no_signal_of_another_process_is_missed(
    store: PostgresBackend, url: str, schema: str, ask: Ask, first: str
) -> None:
    """A run and its signal find each other even if the transaction of the one has not yet seen that of the other."""
    await store.create(new_run("running"))
    run_id = "new" if first == "creation" else "running"
    async with await psycopg.AsyncConnection.connect(url, options=f"-c search_path={schema}") as other:

        async def do(statement: Any, *values: Any) -> None:
            await other.execute(statement, values)

        await do(signals.LOCK, [run_id])  # what another backend sends, up to its COMMIT
        if first == "signal":
            await do("INSERT INTO signals (run_id, signal_id, name) VALUES (%s, '1', 'go')", run_id)
            commit = step(1, status=RunStatus.PARKED, wait=WAIT, release=True)._replace(run_id=run_id)
            late = asyncio.ensure_future(store.commit(commit))
        else:
            if first == "parking":
                await do("UPDATE runs SET status = 'parked', awaited = 'go', holder = NULL")
            else:
                await do(_CREATE, run_id)
            late = asyncio.ensure_future(store.put_signal(run_id, Signal("1", "go")))
        await do(signals.ANSWERED, [run_id])
        async with asyncio.timeout(60):
            await asyncio.to_thread(until_it_waits, ask, late)
        await other.commit()
        await late

    assert [run.run_id for run in await store.ready(NOW)] == [run_id]


def until_it_waits(ask: Ask, call: asyncio.Future[Any]) -> None:
    """Return when a call waits for another transaction, or is done."""
    while not call.done() and not ask("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"):
        pass


_CREATE = """
    INSERT INTO runs (run_id, workflow, version, fingerprint, created, updated, state, status, seq, head, folded, tail,
        token, awaited)
    VALUES (%s, 'flow', '1', 'f1', 0, 0, 'A', 'parked', 0, 0, 0, 0, 0, 'go')"""


async def test_two_processes_signal_runs_of_each_other(store: PostgresBackend, url: str, schema: str) -> None:
    """Processes that commit steps and signal the other's runs at the same time do not deadlock."""
    other = PostgresBackend(url, schema=schema)
    await other.open()
    try:
        pairs = [(store, other, "a{}"), (other, store, "b{}")]
        await asyncio.gather(*[mine.create(new_run(name.format(n))) for mine, _, name in pairs for n in range(10)])
        async with asyncio.timeout(60):
            for seq in range(1, 21):
                await asyncio.gather(
                    *[mine.commit(step(seq, name.format(n))) for mine, _, name in pairs for n in range(10)],
                    *[theirs.put_signal(name.format(n), Signal(f"{seq}", "go")) for _, theirs, name in pairs
                      for n in range(10)],
                )  # fmt: skip
    finally:
        await other.close()


async def test_the_event_loop_turns_while_a_long_list_is_decoded(
    store: PostgresBackend, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not more than 200 rows are decoded in one turn of the event loop."""
    ask(_FILL_RUNS, NOW, NOW + 1e9)
    turns, decoded = 0, list[int]()
    loop, honest = asyncio.get_running_loop(), reading._listed

    def turn() -> None:
        nonlocal turns
        turns += 1
        if not listing.done():
            loop.call_soon(turn)

    def note(row: Any) -> RunRecord:
        decoded.append(turns)
        return honest(row)

    monkeypatch.setattr(reading, "_listed", note)
    listing = asyncio.ensure_future(store.runs(RunFilter(status=RunStatus.PARKED)))
    turn()
    assert len(await listing) == len(decoded) == 5000
    assert max(Counter(decoded).values()) <= 200


async def test_a_page_of_a_history_is_read_alone(store: PostgresBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page reads no other entry, wherever it lies in a long history."""
    place = "cano_postgres.snapshot.unpack_changes"
    assert await check_pages_are_read_alone(store, monkeypatch, place, unpack_changes, 200) == [5] * 4


_FILL_QUEUE = """
    INSERT INTO runs (run_id, workflow, version, fingerprint, created, updated, state, status, seq, head, folded, tail,
        token, queue, priority, key, class)
    SELECT 'a ' || n, 'flow', '1', 'f1', %s, %s, 'S0', 'enqueued', 0, 1, 0, 1, 0, 'default', 0, 'a', %s
    FROM generate_series(2, 100000) AS n"""


async def test_one_run_behind_100_000_of_another_begins_at_once(store: PostgresBackend, ask: Ask, explain: Any) -> None:
    """It is in the first claim, whose plan reads the index of queues, and of it a part that does not grow with it."""
    await store.create(free_run("a 1", lane=Lane(key="a")))
    ask(_FILL_QUEUE, NOW, NOW, class_of(*FLOW, "default"))
    ask("""INSERT INTO journal (run, line, seq, state, status, at, packed)
        SELECT runs.id, 1, 0, 'S0', 'running', at, packed FROM runs CROSS JOIN journal WHERE runs.run_id <> 'a 1'""")
    ask("VACUUM ANALYZE")
    await store.create(free_run("b 1", lane=Lane(key="b")))

    plan = await _claim(explain)
    assert "Seq Scan on runs" not in plan, plan
    assert {*re.findall(r"using (\w+) on runs\b", plan)} == {
        "runs_to_wake", "runs_running", "runs_delayed", "runs_queued", "runs_pkey"
    }, plan  # fmt: skip
    chosen = plan[plan.index("CTE found") : plan.index("CTE claimed")]
    assert re.findall(r"using (\w+)", chosen) == ["runs_queued"], plan
    assert re.findall(r"using (\w+)", plan[plan.index("CTE classes") : plan.index("CTE found")]) == ["runs_queued"] * 4
    for question in (queues._SIZES, queues._BEFORE):
        its = {"workflows": ["flow"], "class": 1, "priority": 0, "key": "a", "most": 9, "run_id": "a 1"}
        plan = await explain(question, {**its, "versions": ["1"], "fingerprints": ["f1"], "queues": None})
        assert {*re.findall(r"using (\w+)", plan)} <= {"runs_queued", "runs_run_id_key"}, plan
        assert "Seq Scan on runs" not in plan, plan
    assert await store.queue_sizes([FLOW], 1000) == {"default": 1000}
    assert len(await store.ready(NOW)) == 100
    for limit, expected in ((10, "aaaaab"), (1, "a")):
        found = await store.claim_ready([FLOW], limit, "me", NOW, LATER)
        assert "".join(sorted(each.run_id[0] for each in found)) == expected
    await store.create(free_run("c 1", lane=Lane(priority=1)))
    assert [each.run_id for each in await store.claim_ready([FLOW], 1, "me", NOW, LATER)] == ["c 1"]


async def _claim(explain: Any) -> str:
    """Return the plan of a claim of ten runs."""
    wanted = {"workflows": ["flow"], "versions": ["1"], "fingerprints": ["f1"], "limit": 10}
    plan: str = await explain(leases.CLAIM_READY, {**wanted, "queues": None})
    return plan
