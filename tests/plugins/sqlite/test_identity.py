"""Files that are deleted, replaced, or copied without their log: the store fails, and loses nothing without a word."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cano import StoreUnavailableError
from cano.testing.contract_base import NOW, loaded, new_run, note, step
from cano_sqlite import SqliteBackend, identity
from cano_sqlite.schema import migrate


def delete(path: Path) -> None:
    """Delete the file."""
    path.unlink()


def replace(path: Path) -> None:
    """Put an older copy in its place, as a restored backup does."""
    shutil.copy(path, copy := path.with_name("copy.db"))
    os.replace(copy, path)


def delete_log(path: Path) -> None:
    """Delete the write-ahead log alone."""
    path.with_name(f"{path.name}-wal").unlink()


@pytest.mark.parametrize("harm", [delete, replace, delete_log])
async def test_a_file_that_is_gone(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    """Steps, with and without the writing thread, and renewals fail from the next call on, and say why."""
    path = tmp_path / "runs.db"
    store = SqliteBackend(path)
    await store.open()
    await store.create(new_run())
    await store.commit(step(1))
    await store.commit(step(2))
    harm(path)

    for call in (
        lambda: store.commit(step(3)),
        lambda: store.commit(note(2)),
        lambda: store.renew("me", {"run": 1}, NOW + 60),
        lambda: store.create(new_run("other")),
    ):
        with pytest.raises(StoreUnavailableError, match="deleted, moved or replaced"):
            await call()
    await store.close()


async def test_a_file_that_is_put_back(tmp_path: Path) -> None:
    """A file that was moved away and is back works again, with all of its commits."""
    path = tmp_path / "runs.db"
    store = SqliteBackend(path)
    await store.open()
    await store.create(new_run())
    path.rename(tmp_path / "away.db")
    with pytest.raises(StoreUnavailableError):
        await store.commit(step(1))

    (tmp_path / "away.db").rename(path)
    await store.commit(step(1))
    assert (await loaded(store)).seq == 1
    await store.close()


async def test_a_copy_without_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new store's file, copied alone while it is open, is refused: it would open as an empty store."""
    monkeypatch.setattr(identity, "PATIENCE", 0.1)
    path = tmp_path / "runs.db"
    store = SqliteBackend(path)
    await store.open()
    await store.create(new_run())
    shutil.copy(path, tmp_path / "copy.db")

    with pytest.raises(StoreUnavailableError, match="its -wal file is missing"):
        await SqliteBackend(tmp_path / "copy.db").open()
    await store.close()

    again = SqliteBackend(path)  # closing has copied the log into the file, and removed it
    await again.open()
    assert (await loaded(again)).run_id == "run"
    await again.close()


async def test_a_new_file_that_is_locked_while_its_tables_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that locks a new file for a moment only delays its opening: the log is the one that was just begun."""
    monkeypatch.setattr(identity, "PATIENCE", 0.1)
    path, busy = tmp_path / "runs.db", [True]

    def locked(connection: sqlite3.Connection, path: Path) -> None:
        if not busy:
            return migrate(connection, path)
        busy.clear()
        error = sqlite3.OperationalError("database is locked")
        error.sqlite_errorcode = sqlite3.SQLITE_BUSY
        raise error

    monkeypatch.setattr("cano_sqlite.connection.migrate", locked)
    store = SqliteBackend(path)
    await store.open()
    await store.create(new_run())
    await store.close()
    assert not busy


async def test_a_second_store_of_the_process_keeps_its_locks(tmp_path: Path) -> None:
    """A process that opens the file again still locks it: otherwise the next one to close it deletes the log."""
    path = tmp_path / "runs.db"
    store, second = SqliteBackend(path), SqliteBackend(path)
    await store.open()
    await store.create(new_run())
    await second.open()
    await second.close()

    look = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); print(*c.execute('SELECT run_id FROM runs').fetchone())"
    )
    other = await asyncio.create_subprocess_exec(sys.executable, "-c", look, path, stdout=subprocess.PIPE)
    output, _ = await other.communicate()
    assert output == b"run\n"
    assert path.with_name("runs.db-wal").exists()
    await store.commit(step(1))
    await store.close()
