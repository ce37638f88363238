"""Namespaces are files of their own, beside the store's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cano.testing.contract_base import new_run
from cano_sqlite import SqliteBackend


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("acme-1", "runs.db@acme-1.db"),
        ("acme.db", "runs.db@~1d27570cfee1e834b8e4402142cbbd0e854fa03b.db"),
        ("a/../../b", "runs.db@~773ed499e36b8765afda17c9bb88e518a2dccea0.db"),
    ],
)
async def test_files(tmp_path: Path, name: str, file: str) -> None:
    """A plain name is part of the file's; no name leads to another folder, or to the log of another file."""
    store = SqliteBackend(tmp_path / "runs.db", synchronous="normal", file_mode=0o640, snapshot_every=7)
    part = store.scoped(name)
    assert not await part.exists()
    assert repr(part) == f"<SqliteBackend {tmp_path / file}, not open>"
    assert part._settings.snapshot_every == 7
    await part.open()
    await part.create(new_run())
    assert set(os.listdir(tmp_path)) == {file, f"{file}-wal", f"{file}-shm"}
    assert (tmp_path / file).stat().st_mode & 0o777 == 0o640
    await part.close()
    assert await part.exists()
    assert not await store.exists()


async def test_a_part_of_an_open_store(tmp_path: Path) -> None:
    """Closing a part leaves the store open, and the other way round."""
    store = SqliteBackend(tmp_path / "runs.db", synchronous="normal")
    part = store.scoped("a")
    await store.open()
    await part.open()
    await store.close()
    await part.create(new_run())
    again = store.scoped("a")
    await again.open()
    assert await again.load("run") == new_run()
    await part.close()
    assert await again.load("run") == new_run()
    await again.close()
