"""Opening: what is created, and what is refused."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from cano import RunFilter, RunStatus, Signal, Signals, StoreUnavailableError
from cano.testing.contract_base import LATER, NOW, loaded, new_run, step
from cano_msgspec.packing import pack_changes, pack_extra
from cano_sqlite import SqliteBackend
from cano_sqlite.schema import APPLICATION_ID, MIGRATIONS

Ask = Callable[..., list[Any]]


def threads() -> list[str]:
    """Return the names of the stores' live threads."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("cano-sqlite")]


def test_whether_it_is_there(tmp_path: Path) -> None:
    """`exists` works before `open`, and creates nothing."""
    store, astray = (SqliteBackend(tmp_path / name) for name in ("runs.db", "no folder/runs.db"))

    async def make() -> bool:
        await store.open()
        await store.close()
        return await store.exists()

    assert not asyncio.run(store.exists())
    assert not asyncio.run(astray.exists())
    assert [*tmp_path.iterdir()] == []
    assert asyncio.run(make())


async def test_whether_it_is_there_cannot_be_told() -> None:
    """A name that the system refuses raises StoreUnavailableError."""
    with pytest.raises(StoreUnavailableError, match="cannot be looked for: File name too long"):
        await SqliteBackend("x" * 5000).exists()


def content(path: Path) -> bytes:
    """Return the bytes of a file."""
    return path.read_bytes()


def write(path: Path, content: bytes) -> None:
    """Write a file."""
    path.write_bytes(content)


def protect(folder: Path, *files: Path) -> None:
    """Make a folder and files in it read-only."""
    for file in files:
        file.chmod(0o444)
    folder.chmod(0o555)


async def refusal(store: SqliteBackend) -> str:
    """Return the message of the error that `open` raises."""
    with pytest.raises(StoreUnavailableError) as caught:
        await store.open()
    await store.close()
    return str(caught.value)


async def test_a_new_file(store: SqliteBackend, ask: Ask) -> None:
    """A new file has Cano's application id, the newest schema, and a write-ahead log."""
    assert ask("PRAGMA application_id") == [(APPLICATION_ID,)]
    assert ask("PRAGMA user_version") == [(len(MIGRATIONS),)]
    assert ask("PRAGMA journal_mode") == [("wal",)]


@pytest.mark.parametrize(("synchronous", "level"), [("full", 2), ("normal", 1)])
async def test_synchronous(path: Path, synchronous: str, level: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The writing connection has the configured level."""
    levels = []
    original = sqlite3.connect

    class Spy(sqlite3.Connection):
        def close(self) -> None:
            levels.append(self.execute("PRAGMA synchronous").fetchone()[0])
            super().close()

    monkeypatch.setattr(sqlite3, "connect", lambda *args, **options: original(*args, **options, factory=Spy))
    store = SqliteBackend(path, synchronous=synchronous)
    await store.open()
    await store.create(new_run())
    await store.close()

    assert level in levels


async def test_opening_twice_is_harmless(path: Path) -> None:
    """`open` of an open store does nothing, also when two callers open it at once."""
    store = SqliteBackend(path)
    await asyncio.gather(store.open(), store.open())
    await store.open()
    assert sorted(threads()) == ["cano-sqlite lister", "cano-sqlite reader", "cano-sqlite writer"]

    await asyncio.gather(store.close(), store.close())
    assert threads() == []


async def test_use_before_opening(path: Path) -> None:
    """A store that is not open says so."""
    with pytest.raises(StoreUnavailableError, match="is not open"):
        await SqliteBackend(path).load("run")


async def test_a_missing_folder(tmp_path: Path) -> None:
    """If the folder is missing, the error names it and the remedy; then `open` works."""
    folder = tmp_path / "missing"
    store = SqliteBackend(folder / "runs.db")
    with pytest.raises(StoreUnavailableError) as caught:
        await store.open()
    assert f"the folder {folder} does not exist; create it first" in str(caught.value)
    with pytest.raises(StoreUnavailableError, match="is not open"):
        await store.load("run")

    folder.mkdir()
    await store.open()
    assert await store.load("run") is None
    await store.close()


async def test_no_file(tmp_path: Path) -> None:
    """A folder in place of the file, or a file in place of the folder, is named."""
    (tmp_path / "file").touch()

    assert f"the store {tmp_path} cannot be used: it is a folder" in await refusal(SqliteBackend(tmp_path))
    assert f"{tmp_path / 'file'} is not a folder" in await refusal(SqliteBackend(tmp_path / "file" / "runs.db"))


async def test_no_database(path: Path) -> None:
    """A file of another kind is refused, and unchanged."""
    text = b"Not a database, but a text that is longer than the header of one would be. " * 20
    write(path, text)

    assert f"the store {path} cannot be used: it is not an SQLite database" in await refusal(SqliteBackend(path))
    assert content(path) == text


@pytest.mark.parametrize("mark", ["CREATE TABLE theirs (x)", "PRAGMA user_version = 3", "PRAGMA application_id = 7"])
async def test_the_database_of_another_program(path: Path, ask: Ask, mark: str) -> None:
    """A database of another program is refused, and unchanged."""
    ask(mark)
    before = content(path)

    assert "it is the database of another program" in await refusal(SqliteBackend(path))
    assert content(path) == before


async def test_a_newer_schema(path: Path, store: SqliteBackend, ask: Ask) -> None:
    """A file of a newer version is refused; the error names both versions."""
    ask(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")

    said = await refusal(SqliteBackend(path))

    assert (
        f"has schema version {len(MIGRATIONS) + 1}, but this cano-sqlite supports versions up to {len(MIGRATIONS)}"
        in said
    )


async def test_an_empty_file_is_a_new_one(path: Path) -> None:
    """An empty file becomes a store."""
    write(path, b"")
    store = SqliteBackend(path)
    await store.open()
    assert await store.create(new_run()) == new_run()
    await store.close()


@contextmanager
def somebody_else() -> Iterator[None]:
    """A block in which root is another user, so that permissions apply."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def readable() -> Iterator[Path]:
    """A folder that all users can read and only its owner can write."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs POSIX permissions")
async def test_read_only(readable: Path) -> None:
    """A read-only file or folder is named with the remedy."""
    path = readable / "runs.db"
    store = SqliteBackend(path)
    await store.open()
    await store.close()
    protect(readable, path)
    with somebody_else():
        there, not_there = await refusal(SqliteBackend(path)), await refusal(SqliteBackend(readable / "new.db"))

    assert f"the store {path} cannot be used: " in there
    assert "make the file and its folder" in there
    assert "make the file and its folder accessible" in not_there


async def test_an_interrupted_creation_is_made_good(path: Path) -> None:
    """The tables are created in one transaction: a process that is killed meanwhile leaves a usable file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        for statement in MIGRATIONS[0]:
            connection.execute(statement)
        shutil.copy(path, path.with_suffix(".copy"))
        shutil.copy(f"{path}-wal", f"{path.with_suffix('.copy')}-wal")
    store = SqliteBackend(path.with_suffix(".copy"))
    await store.open()
    assert await store.create(new_run()) == new_run()
    await store.close()


FORKS = """
import asyncio, os, sys
from cano import StoreUnavailableError
from cano.testing.contract_base import loaded, new_run, step
from cano_sqlite import SqliteBackend

store = SqliteBackend(sys.argv[1])
loop = asyncio.new_event_loop()
loop.run_until_complete(store.open())
loop.run_until_complete(store.create(new_run()))
loop.run_until_complete(store.commit(step(1)))

async def refused():
    for call in (store.commit(step(2)), store.load("run"), store.delete("run")):
        try:
            await call
        except StoreUnavailableError as error:
            assert "before this process was forked" in str(error)
        else:
            os._exit(3)
    await store.close()

child = os.fork()
if not child:
    asyncio.run(refused())
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
loop.run_until_complete(store.commit(step(2)))
assert loop.run_until_complete(loaded(store)).seq == 2
loop.run_until_complete(store.close())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that forks")
def test_a_forked_process_is_refused(path: Path) -> None:
    """A forked process cannot use the store of its parent; the parent can."""
    done = subprocess.run([sys.executable, "-c", FORKS, str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS)))
async def test_a_file_of_an_earlier_version(path: Path, version: int) -> None:
    """A file of an earlier version is migrated, and its runs go on."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.create_function("cano_apart", 1, lambda changes: changes)  # nothing is the engine's own
        for name in ("cano_addressee", "cano_addressed_id"):
            connection.create_function(name, 1, lambda signal: signal)  # there is none
        connection.create_function("cano_class", 2, lambda extra, place: None)  # no run has failed
        connection.execute("PRAGMA journal_mode = WAL")
        for statement in MIGRATIONS[0]:
            connection.execute(statement)
        connection.execute(
            """INSERT INTO runs (run_id, workflow, version, fingerprint, created, updated, status, seq, head, folded,
                tail, holder, expires, token) VALUES ('run', 'flow', '1', 'f1', ?, ?, 'running', 1, 2, 0, 2, 'me', ?, 1)
            """,
            (NOW, NOW + 1, LATER),
        )
        for seq in (0, 1):
            connection.execute(
                "INSERT INTO journal (run, prev, seq, state, status, at, changes) VALUES (1, ?, ?, ?, 'running', ?, ?)",
                (seq, seq, f"S{seq}", NOW + seq, pack_changes({f"k{seq}": b"v"}, ())),
            )
        for statement in itertools.chain(*MIGRATIONS[1:version]):
            connection.execute(statement)
    store = SqliteBackend(path)
    await store.open()
    for seq in (2, 3):
        await store.commit(step(seq, changed={f"k{seq}": b"v"}))

    run = await loaded(store)
    assert run == new_run(seq=3, state="S3", updated=NOW + 3, data={f"k{seq}": b"v" for seq in range(4)})
    assert [line.seq for line in await store.history("run")] == [0, 1, 2, 3]
    await store.close()


async def test_signals_to_a_wait_of_an_earlier_version(path: Path) -> None:
    """Their ids had the wait's seq. Those of the engine's own keep their ids, whatever these are."""
    rows = [
        (0, "\0wait 3 é:\0", 0), (0, "\0wait 3 gone", 1), (0, "\0wait x y", 0), (1, "\0wait 3 own", 0), (0, "plain", 1),
    ]  # fmt: skip
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.create_function("cano_apart", 1, lambda changes: changes)  # there is nothing to rewrite
        for statement in itertools.chain(*MIGRATIONS[:14]):
            connection.execute(statement)
        for row in rows:
            connection.execute(
                "INSERT INTO signals (run_id, own, signal, name, consumed) VALUES ('run', ?, ?, 'go', ?)", row
            )
    store = SqliteBackend(path)
    await store.open()
    await store.put_signal("run", Signal("gone", "go", to=3))
    assert await store.signals("run") == Signals(
        [Signal("é:\0", "go", to=3), Signal("\0wait x y", "go"), Signal("\0wait 3 own", "go", own=True)],
        ["plain"], [], [(3, "gone")],
    )  # fmt: skip
    await store.close()


async def test_outcomes_of_an_earlier_version(path: Path) -> None:
    """Runs that had ended before are found by their state and their error; a corrupt one keeps no other from it."""
    errors: list[Any] = [{"type": "A", "cause": "B: no"}, {"type": "B", "cause": None}, None, b"corrupt", {"type": "B"}]
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        for name, count in (("cano_apart", 1), ("cano_addressee", 1), ("cano_addressed_id", 1)):
            connection.create_function(name, count, lambda value: value)  # there is nothing to rewrite
        for statement in itertools.chain(*MIGRATIONS[:15]):
            connection.execute(statement)
        for number, error in enumerate(errors, 1):
            status = "running" if number == 5 else "failed"
            extra = error if isinstance(error, bytes) else pack_extra(error, None, None)
            connection.execute(
                """INSERT INTO runs (id, run_id, created, updated, status, seq, head, folded, tail, token)
                    VALUES (?, ?, ?, ?, ?, 0, ?, 0, 1, 0)""", (number, f"{number}", NOW + number, NOW, status, number)
            )  # fmt: skip
            connection.execute(
                "INSERT INTO journal VALUES (?, ?, 0, 0, 'PAY', ?, ?, ?, x'')", (number, number, status, NOW, extra)
            )
            connection.execute("INSERT INTO definitions VALUES (?, 'flow', '1', 'f1', ?)", (number, NOW + number))
        connection.execute("UPDATE runs SET seq = 0, tail = 1")
    store = SqliteBackend(path)
    await store.open()
    for expected, fields in ((["2", "1"], {"error": "B"}), (["1"], {"error": "A"}), (list("4321"), {"state": "PAY"})):
        wanted = RunFilter(status=RunStatus.FAILED)._replace(**fields)  # type: ignore[arg-type]
        assert [run.run_id for run in await store.runs(wanted)] == expected
        assert await store.count(wanted) == len(expected)
    await store.close()


async def test_an_earlier_version_that_has_the_file_open(path: Path) -> None:
    """A process of an earlier version cannot write to the file once it is migrated: its values would be lost."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        for statement in itertools.chain(*MIGRATIONS[:4]):
            connection.execute(statement)
        store = SqliteBackend(path)
        await store.open()
        await store.create(new_run())

        with pytest.raises(sqlite3.OperationalError, match="changes"):
            connection.execute(
                """INSERT INTO journal (run, prev, seq, status, state, at, changes)
                SELECT id, head, seq + 1, 'running', ?, ?, ? FROM runs WHERE run_id = ?""",
                ("S1", NOW, pack_changes({"\0key": b"v"}, ()), "run"),
            )
        with pytest.raises(sqlite3.OperationalError, match="no column named signal"):
            connection.execute(
                """INSERT INTO signals (run_id, signal, name, payload) VALUES ('run', 'a', 'b', NULL)
                ON CONFLICT (run_id, signal) DO NOTHING"""
            )

        with pytest.raises(sqlite3.OperationalError, match="value"):  # it would read no parts
            connection.execute("SELECT own, key, value FROM snapshot WHERE run = 1 ORDER BY id")

        await store.commit(step(1))
        await store.close()
