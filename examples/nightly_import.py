"""A nightly import: writes the lines of text files to a database in batches.

Run as `python examples/nightly_import.py [FOLDER] [--night 2026-11-24] [--batch N]`.

Kill it at any time and run it again: it resumes with the batch that was interrupted, and no line is lost or imported
twice. Without a folder it reads the modules of Python's library.

The night is the run's id, so each night is imported once, however often the command is started. Each batch is one
step. The store keeps the position. The database, a different one, stores the lines and the step's idempotency key in
one transaction.
"""

import argparse
import asyncio
import sqlite3
import sys
import sysconfig
from contextlib import closing
from datetime import UTC, datetime
from enum import Enum, auto
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from cano import Kernel, Key, KeyValueStore, TaskConfig, Workflow, current_step
from cano_retry import Exponential


class State(Enum):
    FIND = auto()
    LOAD = auto()
    REPORT = auto()
    DONE = auto()


FOLDER = Key("folder", str)
DATABASE = Key("database", str)
BATCH = Key("batch", int)
FILES = Key("files", list[str])
FILE = Key("file", int)  # index of the current file
OFFSET = Key("offset", int)  # in bytes
LINE = Key("line", int)
TOTAL = Key("total", int)
BATCHES = Key("batches", int)
UNREADABLE = Key("unreadable", list[str])

flow = Workflow(State.FIND, name="nightly import").add_exit_state(State.DONE)


@flow.on(State.FIND)
def find(store: KeyValueStore) -> Literal[State.LOAD]:
    folder = store.get(FOLDER, default=None)
    found = Path(sysconfig.get_path("stdlib")).glob("*.py") if folder is None else Path(folder).rglob("*.txt")
    store[FILES] = sorted(str(path) for path in found if path.is_file())
    store[UNREADABLE] = []
    store[FILE] = store[OFFSET] = store[LINE] = store[TOTAL] = store[BATCHES] = 0
    return State.LOAD


# a network drive may time out for a moment
@flow.on(State.LOAD, config=TaskConfig(retry=Exponential(3, retry_on=TimeoutError)))
def load(store: KeyValueStore) -> Literal[State.LOAD, State.REPORT]:
    if store[FILE] == len(store[FILES]):
        return State.REPORT
    path, first = store[FILES][store[FILE]], store[LINE]
    try:
        with open(path, "rb") as file:
            file.seek(store[OFFSET])
            lines = list(islice(file, store.get(BATCH, default=1000)))
            store[OFFSET] = file.tell()
    except (FileNotFoundError, PermissionError) as error:
        store.append(UNREADABLE, f"{path}: {error.strerror}")
        lines = []
    if lines:
        insert(store.get(DATABASE, default=None), path, first, lines)
        store[LINE] += len(lines)
        store[TOTAL] += len(lines)
        store[BATCHES] += 1
        print(f"batch {store[BATCHES]}: {Path(path).name}, {len(lines)} lines from {first + 1}", flush=True)
    else:
        store[FILE] += 1
        store[OFFSET] = store[LINE] = 0
    current_step().progress(store[FILE], len(store[FILES]), path)
    return State.LOAD


def insert(database: str | None, path: str, first: int, lines: list[bytes]) -> None:
    """Insert a batch, unless the database has its key already: a step interrupted by a crash is repeated."""
    if database is None:
        return
    step = current_step()
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE IF NOT EXISTS batches (key TEXT PRIMARY KEY)")
        connection.execute("CREATE TABLE IF NOT EXISTS lines (night TEXT, path TEXT, number INTEGER, text TEXT)")
        if connection.execute("INSERT OR IGNORE INTO batches VALUES (?)", [step.idempotency_key]).rowcount:
            rows = [(step.run_id, path, first + n, line.decode(errors="replace")) for n, line in enumerate(lines, 1)]
            connection.executemany("INSERT INTO lines VALUES (?, ?, ?, ?)", rows)


@flow.on(State.REPORT)
async def report(store: KeyValueStore) -> Literal[State.DONE]:
    unreadable = store[UNREADABLE]
    print(f"{len(store[FILES]) - len(unreadable)} files, {store[TOTAL]} lines, {store[BATCHES]} batches")
    for line in unreadable:
        print("unreadable:", line)
    return State.DONE


async def main() -> int:
    parser = argparse.ArgumentParser(description="Import text files into a database, once per night.")
    parser.add_argument("folder", nargs="?", type=Path, help="folder with *.txt files; by default Python's library")
    parser.add_argument("--night", default=f"{datetime.now(UTC):%Y-%m-%d}", help="night to import; by default today's")
    parser.add_argument("--batch", type=int, default=1000, help="lines per batch")
    parser.add_argument("--database", type=Path, default=Path("lines.db"), help="file of the database for the lines")
    parser.add_argument("--store", default="sqlite:///imports.db", help="URL of the store for the runs")
    given = parser.parse_args()
    if given.batch < 1:
        parser.error(f"--batch must be 1 or more, not {given.batch}")
    data: dict[Any, Any] = {BATCH: given.batch, DATABASE: str(given.database.absolute())}
    if given.folder is not None:
        if not given.folder.is_dir():
            parser.error(f"not a folder: {given.folder}")
        data[FOLDER] = str(given.folder.absolute())
    async with Kernel(store=given.store, lease=1) as kernel:
        result = await kernel.run(flow, data, run_id=f"import-{given.night}")
        print(f"{result.run_id} is done: {result.data[str(TOTAL)]} lines in {given.database}")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
