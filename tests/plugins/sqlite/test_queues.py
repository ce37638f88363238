"""Queues of 100,000 runs: the work of a claim is bounded, and a key with many runs delays no other key."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cano import ClaimedRun, Lane
from cano.testing.contract_base import FLOW, LATER, NOW, free_run
from cano_durability.stores.lanes import Turns, class_of
from cano_sqlite import SqliteBackend, queues

Ask = Callable[..., list[Any]]
NUMBER = 100_000
CLASS = class_of(*FLOW, "default")
_NUMBERS = f"WITH RECURSIVE numbers (n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM numbers WHERE n < {NUMBER})"
FILL = (
    f"""INSERT INTO runs (run_id, created, updated, status, seq, head, folded, tail, token, queue, priority, key, class)
    {_NUMBERS} SELECT 'a ' || n, {NOW}, {NOW}, 'enqueued', 0, 0, 0, 1, 0, 'default', 0, 'a', {CLASS} FROM numbers""",
    """INSERT INTO definitions (run, workflow, version, fingerprint, created)
    SELECT id, 'flow', '1', 'f1', created FROM runs WHERE key = 'a' AND head = 0""",
    """INSERT INTO journal (run, prev, seq, state, status, at, packed)
    SELECT runs.id, 0, 0, state, journal.status, at, packed FROM runs CROSS JOIN journal ON journal.id = 1
    WHERE key = 'a' AND head = 0""",
    # the trigger has set all else
    "UPDATE runs SET tail = 1",
)
"""Statements that make copies of the first run."""


async def claimed(store: SqliteBackend, limit: int) -> Counter[str]:
    """Claim runs once, and count them by key."""
    found: list[ClaimedRun] = [*await store.claim_ready([FLOW], limit, "me", NOW, LATER)]
    assert all(each.record is not None for each in found)
    return Counter(each.record.lane.key for each in found if each.record is not None and each.record.lane is not None)


async def test_one_run_behind_100_000_of_another_begins_at_once(store: SqliteBackend, ask: Ask, path: Path) -> None:
    """It is in the first claim; a claim of few runs makes as few steps in SQLite as with a queue of 100."""
    await store.create(free_run("a 1", lane=Lane(key="a")))
    for number in range(99):
        await store.create(free_run(f"z {number}", lane=Lane("other", key=f"{number}")))
    few = await _steps(path)
    for number in range(99):
        await store.delete(f"z {number}")
    for statement in FILL:
        ask(statement)
    ask("ANALYZE")
    await store.create(free_run("b 1", lane=Lane(key="b")))
    assert ask("SELECT count(*) FROM runs WHERE status = 'enqueued'") == [(NUMBER + 1,)]

    assert await _steps(path) < 2 * few + 1000
    assert await store.queue_sizes([FLOW], 1000) == {"default": 1000}
    assert len(await store.ready(NOW)) == 100
    assert await claimed(store, 10) == {"a": 9, "b": 1}
    await store.create(free_run("b 2", lane=Lane(key="b")))
    assert await claimed(store, 1) == {"b": 1}, "b has had one turn less"
    await store.create(free_run("first", lane=Lane(priority=1, key="c")))
    assert await claimed(store, 1) == {"c": 1}


async def _steps(path: Path) -> int:
    """Return how many steps SQLite's machine takes to choose ten runs."""
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return 0

    def look() -> None:
        connection = sqlite3.connect(path)
        connection.set_progress_handler(step, 1)
        assert len(queues.chosen(connection, [FLOW], 10, None, Turns())) <= 10
        queues.sizes(connection, [FLOW], 10)
        connection.set_progress_handler(None, 0)
        connection.close()

    await asyncio.to_thread(look)
    return count


def test_claims_read_the_index_of_queues(path: Path, store: SqliteBackend, ask: Ask) -> None:
    """No statement scans a table, or sorts."""
    statements = [value for name, value in vars(queues).items() if isinstance(value, str) and "INDEXED BY" in value]
    assert len(statements) >= 12
    for statement in statements:
        if statement.startswith("FROM") or "{" in statement:  # a part of others
            continue
        plan = [row[3] for row in ask("EXPLAIN QUERY PLAN " + statement, *[1] * statement.count("?"))]
        assert plan, statement
        assert "TEMP B-TREE" not in str(plan), (statement, plan)
        scans = [step for step in plan if step.startswith("SCAN")]
        assert [step for step in scans if not step.startswith(("SCAN runs USING INDEX runs_queued", "SCAN (sub"))] == []
