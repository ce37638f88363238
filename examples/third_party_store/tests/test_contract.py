"""The contract of Cano's stores, on this one: every clause is a test, those of durable stores among them."""

from __future__ import annotations

from pathlib import Path

from cano.testing import DurableStoreBackendContract


class TestLmdb(DurableStoreBackendContract):
    """The store that the URL opens, in this process and in others."""

    def make_url(self, tmp_path: Path) -> str:
        """A file that nobody uses yet."""
        return f"lmdb:///{tmp_path}/runs.mdb"
