"""Streams in an SQLite file: what the queries read."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from cano_sqlite import SqliteBackend, streams
from cano_sqlite.news import STREAMED


async def test_queries_read_an_index(tmp_path: Path) -> None:
    """A part of a stream, the names of its channels, and the runs with new chunks are found without a scan."""
    store = SqliteBackend(tmp_path / "runs.db")
    await store.open()
    await store.close()
    connection = sqlite3.connect(tmp_path / "runs.db")
    try:
        for question, values in (
            (streams.READ, ("r", "x", 1, 2)), (streams.CHANNELS, ("r",)), (STREAMED, (1,)),
        ):  # fmt: skip
            plan = [row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + question, values)]
            assert [step for step in plan if "SCAN chunks" in step or "SCAN runs" in step] == [], plan
            assert any("chunks USING" in step for step in plan), plan
            assert not any("TEMP B-TREE FOR ORDER BY" in step for step in plan), plan
    finally:
        connection.close()
