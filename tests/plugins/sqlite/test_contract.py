"""The store contract on an SQLite file."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from cano.testing.contract import DurableStoreBackendContract


class TestSqlite(DurableStoreBackendContract):
    """The contract with the default options."""

    def make_url(self, tmp_path: Path) -> str:
        """A file in an empty folder."""
        return f"sqlite:///{tmp_path}/runs.db"

    def connect(self, url: str) -> sqlite3.Connection:
        """A connection to the file."""
        return sqlite3.connect(url.removeprefix("sqlite:///"))
