"""The file among other users and programs: who can read it, and what a crafted file can make Cano do."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cano import ConfigurationError, StoreUnavailableError
from cano.testing.contract_base import loaded, new_run, step
from cano_sqlite import SqliteBackend
from cano_sqlite._plugin import cano_open_store
from cano_sqlite.connection import connect_for_reading, connect_for_writing
from cano_sqlite.settings import Settings

Ask = Callable[..., list[Any]]


@pytest.fixture
def umask() -> Iterator[None]:
    """A umask that lets all users read and write new files."""
    before = os.umask(0)
    yield
    os.umask(before)


def modes(path: Path) -> list[str]:
    """Return the modes of the file, its log and its shared memory, in octal."""
    return [f"{stat.S_IMODE(os.stat(f'{path}{end}').st_mode):o}" for end in ("", "-wal", "-shm")]


def options(path: Path) -> Settings:
    """Return the default options of a store."""
    return Settings(path=path, synchronous="full", busy_timeout=30, snapshot_every=9, strict=False, file_mode=0o600)


def prepared(path: Path, mode: int) -> None:
    """Make an empty file with a mode."""
    path.touch()
    path.chmod(mode)


def link(path: Path, there: bool) -> Path:
    """Make a link to another file, which exists if `there`; return that file."""
    target = path.with_name("victim")
    if there:
        target.touch()
    path.symlink_to(target)
    return target


def content(path: Path) -> bytes:
    """Return the bytes of a file."""
    return path.read_bytes()


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize(("query", "mode"), [("", "600"), ("?file_mode=640", "640"), ("?file_mode=0666", "666")])
async def test_only_the_owner_can_read_new_files(path: Path, query: str, mode: str) -> None:
    """The file, its log and its shared memory have mode 600, or the mode of the option, from their creation."""
    store = cano_open_store(f"sqlite:///{path}{query}")
    assert store is not None
    await store.open()
    await store.create(new_run())

    assert modes(path) == [mode] * 3
    await store.close()


async def test_the_mode_is_as_written_whatever_the_umask(path: Path) -> None:
    """A strict umask does not take away what `file_mode` gives."""
    before = os.umask(0o077)
    try:
        store = SqliteBackend(path, file_mode=0o660)
        await store.open()
        assert modes(path) == ["660"] * 3
        await store.close()
    finally:
        os.umask(before)


async def test_an_existing_file_keeps_its_mode(path: Path) -> None:
    """What an administrator has set stays, also for the log."""
    prepared(path, 0o644)
    store = SqliteBackend(path)
    await store.open()

    assert modes(path) == ["644"] * 3
    await store.close()


@pytest.mark.parametrize("mode", [0o400, 0o755, 0o1600, True, "600", -1])
def test_no_mode(path: Path, mode: Any) -> None:
    """A mode without which the owner could not work, or with which others could execute, is refused."""
    with pytest.raises(ConfigurationError, match="file_mode must be a file mode that lets the owner read and write"):
        SqliteBackend(path, file_mode=mode)


@pytest.mark.parametrize("there", [True, False])
async def test_a_link_is_not_followed(path: Path, there: bool) -> None:
    """A link that another user has planted leads to no file: neither to an existing one nor to a new one."""
    target = link(path, there)
    store = SqliteBackend(path)

    with pytest.raises(StoreUnavailableError, match=rf"runs\.db is a symbolic link, to {target}; name the file"):
        await store.open()
    await store.close()
    assert [file.name for file in path.parent.iterdir()] == (["runs.db", "victim"] if there else ["runs.db"])


@pytest.mark.parametrize("end", ["-wal", "-shm", "-journal"])
async def test_a_link_in_place_of_the_log_is_not_followed(path: Path, end: str) -> None:
    """What SQLite writes beside the file goes nowhere else."""
    target = link(path.with_name(path.name + end), there=True)

    with pytest.raises(StoreUnavailableError, match=f"{end} is a symbolic link, to {target}"):
        await SqliteBackend(path).open()
    assert content(target) == b""


TRIGGERS = [
    "CREATE TRIGGER evil AFTER INSERT ON journal BEGIN DELETE FROM signals; END",
    'create trigger "evil" after update of status on "RUNS" begin select 1; end',
    "CREATE TRIGGER evil BEFORE DELETE ON [signals] BEGIN SELECT raise(ABORT, 'no'); END",
    "CREATE/**/TRIGGER evil AFTER INSERT ON--x\n`snapshot` BEGIN SELECT 1; END",
]


@pytest.mark.parametrize("trigger", TRIGGERS)
async def test_a_trigger_of_others_is_refused(path: Path, store: SqliteBackend, ask: Ask, trigger: str) -> None:
    """A file whose tables have a trigger that Cano did not make is not opened, to write or to read."""
    await store.create(new_run())
    await store.close()
    ask(trigger)

    with pytest.raises(StoreUnavailableError, match="Cano did not make its trigger 'evil'"):
        await SqliteBackend(path).open()
    with pytest.raises(StoreUnavailableError, match="'evil'"):
        connect_for_reading(options(path))


async def test_a_trigger_that_lies_about_its_table(path: Path, store: SqliteBackend, ask: Ask) -> None:
    """The schema table of a crafted file may name another table: Cano or SQLite refuses that."""
    await store.create(new_run())
    await store.close()
    ask(TRIGGERS[0])
    ask("CREATE TABLE innocent (x)")
    ask("PRAGMA writable_schema = ON")
    ask("UPDATE sqlite_master SET tbl_name = 'innocent' WHERE name = 'evil'")
    ask("PRAGMA writable_schema = RESET")

    with pytest.raises(StoreUnavailableError, match="evil"):
        await SqliteBackend(path).open()


async def test_a_statement_of_many_comments(path: Path, store: SqliteBackend, ask: Ask) -> None:
    """A crafted file cannot keep `open` busy, for years without this, by the statement of another table."""
    await store.close()
    ask("CREATE TABLE innocent (x)")
    ask("PRAGMA writable_schema = ON")
    ask(f"UPDATE sqlite_master SET sql = 'CREATE {'/**/' * 60} TABLE innocent (x)' WHERE name = 'innocent'")
    ask("PRAGMA writable_schema = RESET")

    again = SqliteBackend(path)
    await again.open()
    await again.close()


async def test_our_own_trigger_must_be_whole(path: Path, store: SqliteBackend, ask: Ask) -> None:
    """A trigger with the name of ours and another body is refused; so is a file that lacks it."""
    await store.close()
    ask("DROP TRIGGER runs_follow")
    with pytest.raises(StoreUnavailableError, match="'runs_follow' is missing or changed"):
        await SqliteBackend(path).open()

    ask("CREATE TRIGGER runs_follow AFTER INSERT ON journal BEGIN UPDATE runs SET status = 'succeeded'; END")
    with pytest.raises(StoreUnavailableError, match="did not make its trigger 'runs_follow'"):
        await SqliteBackend(path).open()


async def test_triggers_on_other_tables_are_left_alone(path: Path, store: SqliteBackend, ask: Ask) -> None:
    """Tables of the user in the same file may have triggers, and names and columns of any kind."""
    await store.close()
    ask("CREATE TABLE orders (trigger TEXT, runs INTEGER)")
    ask("CREATE TABLE log (x)")
    ask("CREATE TRIGGER order_runs AFTER INSERT ON orders BEGIN INSERT INTO log VALUES (1); END")
    ask("CREATE VIEW failed AS SELECT run_id FROM runs WHERE status = 'failed'")
    store = SqliteBackend(path)
    await store.open()
    await store.create(new_run())
    await store.commit(step(1))
    assert (await loaded(store)).seq == 1
    await store.close()

    ask("INSERT INTO orders VALUES ('t', 1)")
    assert ask("SELECT count(*) FROM log") == [(1,)]


@pytest.mark.parametrize("connect", [connect_for_writing, connect_for_reading])
def test_the_schema_calls_no_function(path: Path, connect: Callable[[Settings], sqlite3.Connection]) -> None:
    """What a crafted schema calls is not executed: a view that calls an application's function is refused."""
    connect_for_writing(options(path)).close()
    with closing(sqlite3.connect(path)) as theirs:
        theirs.create_function("spill", 0, lambda: 1)
        theirs.execute("CREATE VIEW bait AS SELECT spill()")
    with closing(connect(options(path))) as ours:
        called: list[bool] = []
        ours.create_function("spill", 0, lambda: called.append(True))

        with pytest.raises(sqlite3.OperationalError, match="unsafe use of spill"):
            ours.execute("SELECT * FROM bait").fetchall()
    assert called == []


@pytest.mark.parametrize("length", [250, 300])
@pytest.mark.parametrize("namespace", [None, "acme"])
async def test_a_name_that_is_too_long(tmp_path: Path, length: int, namespace: str | None) -> None:
    """The system accepts no such name, be it the file's own or that of the log beside it: the store names the file."""
    store = SqliteBackend(tmp_path / ("x" * length))
    if namespace is not None:
        store = store.scoped(namespace)

    with pytest.raises(StoreUnavailableError, match=r"the store .*x{100}.* cannot be used: .* cannot be looked for"):
        await store.open()
    await store.close()
    assert not any(tmp_path.iterdir())  # noqa: ASYNC240
