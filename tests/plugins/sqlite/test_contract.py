"""The store contract on an SQLite file."""

from __future__ import annotations

from pathlib import Path

from cano.testing.contract import DurableStoreBackendContract


class TestSqlite(DurableStoreBackendContract):
    """The contract with the default options."""

    def make_url(self, tmp_path: Path) -> str:
        """A file in an empty folder."""
        return f"sqlite:///{tmp_path}/runs.db"
