"""Durable steps on SQLite, beside LangGraph's SQLite saver and DBOS, in one run.

Not part of the tests, nor of `python -m tests.benchmarks`: the rivals are installed on request, beside nothing else.

    uv venv .rivals
    uv pip install --python .rivals --group rivals -e kernel -e plugins/durability -e plugins/memory \\
        -e plugins/msgspec -e plugins/sqlite
    .rivals/bin/python -m tests.benchmarks.rivals

The workload is the same for all: a workflow whose steps do nothing but count up one value, each step on disk before
the next one begins, one workflow at a time and 100 at once. All of them take turns, each in a process of its own
in every round; the medians count.
Everybody runs with `synchronous=FULL`, which is SQLite's default and what none of them changes. What differs:

- Cano: one commit per step, in a write-ahead log, shared by what runs at the same time.
- LangGraph: in a write-ahead log; a node that loops by a conditional edge, `durability="sync"`, which is its promise
  that a step is stored before the next one. It writes a checkpoint of the whole state for each step, and the node's
  writes besides.
- DBOS: it leaves SQLite's rollback journal on, and so is measured as it comes, and with its file turned to a
  write-ahead log beforehand. It keeps what a step returned; the value itself is a local variable of the workflow. Its
  authors recommend PostgreSQL for production.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypedDict

from cano import Kernel, KeyValueStore, Workflow

Drive = Callable[[int, int], Awaitable[None]]
"""Runs so many workflows at once, of so many steps each, to their ends."""


class State(TypedDict):
    """LangGraph's data."""

    count: int
    steps: int


@asynccontextmanager
async def raw(folder: Path) -> AsyncIterator[Drive]:
    """One row and one commit for each step, one after the other."""
    connection = sqlite3.connect(folder / "raw.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE steps (id INTEGER PRIMARY KEY, value INTEGER)")

    async def drive(runs: int, steps: int) -> None:
        for count in range(runs * steps):
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO steps (value) VALUES (?)", (count,))
            connection.execute("COMMIT")

    yield drive
    connection.close()


@asynccontextmanager
async def cano(folder: Path) -> AsyncIterator[Drive]:
    """A state that is followed by itself."""

    async def count(store: KeyValueStore) -> str:
        store["count"] = store.get("count", int) + 1
        return "done" if store["count"] >= store["steps"] else "count"

    flow = Workflow("count", name="count").register("count", count).add_exit_state("done")
    async with Kernel(store=f"sqlite:///{folder}/cano.db") as kernel:

        async def drive(runs: int, steps: int) -> None:
            results = await asyncio.gather(*(kernel.run(flow, {"count": 0, "steps": steps}) for _ in range(runs)))
            assert all(result.data["count"] == result.steps == steps for result in results)

        yield drive


@asynccontextmanager
async def langgraph(folder: Path) -> AsyncIterator[Drive]:
    """A node with an edge to itself."""
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
    from langgraph.graph import END, START, StateGraph

    async def count(state: State) -> dict[str, int]:
        return {"count": state["count"] + 1}

    async def following(state: State) -> str:
        return str(END) if state["count"] >= state["steps"] else "count"

    graph = StateGraph(State)
    graph.add_node("count", count)
    graph.add_edge(START, "count")
    graph.add_conditional_edges("count", following, ["count", END])
    async with AsyncSqliteSaver.from_conn_string(f"{folder}/langgraph.db") as saver:
        app = graph.compile(checkpointer=saver)

        async def one(steps: int) -> Any:
            config = {"configurable": {"thread_id": os.urandom(8).hex()}, "recursion_limit": steps + 10}
            return await app.ainvoke({"count": 0, "steps": steps}, config, durability="sync")

        async def drive(runs: int, steps: int) -> None:
            results = await asyncio.gather(*(one(steps) for _ in range(runs)))
            assert all(result["count"] == steps for result in results)

        yield drive


@asynccontextmanager
async def dbos(folder: Path, *, write_ahead: bool = False) -> AsyncIterator[Drive]:
    """A workflow function that awaits one step after the other."""
    from dbos import DBOS

    @DBOS.step()  # type: ignore[untyped-decorator]  # not installed where types are checked
    async def count(value: int) -> int:
        return value + 1

    @DBOS.workflow()  # type: ignore[untyped-decorator]  # nor is this
    async def flow(steps: int) -> int:
        value = 0
        while value < steps:
            value = await count(value)
        return value

    file = folder / "dbos.db"
    if write_ahead:
        connection = sqlite3.connect(file)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.close()
    config: Any = {"name": "rivals", "system_database_url": f"sqlite:///{file}", "log_level": "ERROR"}
    DBOS(config={**config, "run_admin_server": False})
    DBOS.launch()

    async def drive(runs: int, steps: int) -> None:
        handles = [await DBOS.start_workflow_async(flow, steps) for _ in range(runs)]
        assert await asyncio.gather(*(handle.get_result() for handle in handles)) == [steps] * runs

    yield drive
    DBOS.destroy()


EVERYBODY: dict[str, Callable[[Path], AbstractAsyncContextManager[Drive]]] = {
    "raw commits": raw,
    "Cano": cano,
    "LangGraph": langgraph,
    "DBOS": dbos,
    "DBOS, write-ahead log": partial(dbos, write_ahead=True),
}
SHAPES = ((1, 200), (100, 20))
"""How many workflows at once, and how many steps each has."""


async def measured(name: str, folder: Path) -> list[float]:
    """Steps per second, for each shape; the second time counts."""
    speeds = []
    async with EVERYBODY[name](folder) as drive:
        for runs, steps in SHAPES:
            await drive(runs, steps)
            begin = time.perf_counter()
            await drive(runs, steps)
            speeds.append(runs * steps / (time.perf_counter() - begin))
    return speeds


def in_a_process(name: str, folder: Path | None) -> list[float]:
    """The same, in a process of its own: DBOS, for one, leaves things of its own in an event loop."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        command = [sys.executable, "-m", "tests.benchmarks.rivals", "--one", name, "--folder", place]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    speeds: list[float] = json.loads(done.stdout.splitlines()[-1])
    return speeds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.rivals", description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, help="where to write; a folder of the system's for such things")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", choices=EVERYBODY, help="measure only this one, here")
    options = parser.parse_args()
    if options.one is not None:
        print(json.dumps(asyncio.run(measured(options.one, options.folder))))
        return
    rounds = [{name: in_a_process(name, options.folder) for name in EVERYBODY} for _ in range(options.rounds)]
    versions = ", ".join(f"{name} {version(name)}" for name in ("cano", "langgraph-checkpoint-sqlite", "dbos"))
    print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {versions}")
    for number, (runs, steps) in enumerate(SHAPES):
        print(f"\n{runs} workflow(s) of {steps} durable steps: steps per second, median of {options.rounds} rounds")
        for name in EVERYBODY:
            speed = statistics.median(turn[name][number] for turn in rounds)
            ratio = statistics.median(turn["Cano"][number] / turn[name][number] for turn in rounds)
            print(f"  {name:24}{speed:10,.0f}   Cano is {ratio:7.2f} times as fast")


if __name__ == "__main__":
    main()
