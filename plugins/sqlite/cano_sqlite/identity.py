"""The identity of the store's files: a deleted or replaced file keeps accepting commits that no later process finds."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

from cano import StoreUnavailableError

PATIENCE, _PAUSE = 10.0, 0.02
"""Seconds that another process may take from preparing a new file to creating its tables; and between two looks."""


class FileIdentity:
    """The file and its write-ahead log as they were when the store was opened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._paths = (str(path), f"{path}-wal")
        self._known = self._now()

    def _now(self) -> list[tuple[int, int]]:
        found = [os.stat(path) for path in self._paths]
        return [(one.st_dev, one.st_ino) for one in found]

    @property
    def same(self) -> bool:
        """Whether both files are still at their places."""
        try:
            return self._now() == self._known
        except FileNotFoundError:
            return False
        except OSError:  # the file system says nothing about them, and SQLite will
            return True

    def check(self) -> None:
        """Raise StoreUnavailableError unless both files are still at their places."""
        if not self.same:
            raise StoreUnavailableError(
                f"the store {self._path} cannot be used: the file or its -wal was deleted, moved or replaced while it "
                "was open, so commits would be lost; put the file back, or restart the process to use the new one"
            )


def check_copy(connection: sqlite3.Connection, path: Path) -> None:
    """Check a file that had no `-wal` when `connection` opened it.

    It reads through SQLite, because closing any other descriptor of the file would release the locks of this process.

    Raises:
        StoreUnavailableError: the file was copied without its `-wal`, before its first checkpoint.
    """
    if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        return  # a new file
    deadline = time.monotonic() + PATIENCE
    while connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
        if time.monotonic() >= deadline:
            break
        time.sleep(_PAUSE)
    else:
        return
    raise StoreUnavailableError(
        f"the store {path} cannot be used: it is empty, but was in use, so its -wal file is missing; copy both "
        'files, or use `sqlite3 runs.db ".backup copy.db"`; if it holds no runs, delete it'
    )
