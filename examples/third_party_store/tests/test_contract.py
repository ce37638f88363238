"""Cano's store contracts on this store: each clause is a test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cano.testing import DamageContract, DurableStoreBackendContract
from lmdb_runs import rows
from lmdb_runs.file import enter, leave


class TestLmdb(DurableStoreBackendContract):
    """The store that the URL opens, in this process and in others."""

    def make_url(self, tmp_path: Path) -> str:
        """An unused file."""
        return f"lmdb:///{tmp_path}/runs.mdb"


class TestDamage(DamageContract):
    """Corrupt rows: an error that names the run, while other runs go on."""

    def make_url(self, tmp_path: Path) -> str:
        """An unused file."""
        self.path = f"{tmp_path}/runs.mdb"
        return f"lmdb:///{self.path}"

    def damage(self, url: str, run_id: str, what: str) -> None:
        """Change the last byte of a row."""
        row = {
            "record": rows.key(run_id, rows.RUN),
            "data": rows.key(run_id, rows.DATA, "a"),
            "history": rows.key(run_id, rows.HISTORY, 3),
            "signal": rows.key(run_id, rows.WAITING),
        }
        self.change(row[what], lambda stored: stored[:-1] + bytes([stored[-1] ^ 1]))

    def rewrite(self, url: str, run_id: str, change: Callable[[bytes], bytes]) -> None:
        """Change the row of a value."""
        self.change(rows.key(run_id, rows.DATA, "a"), change)

    def change(self, start: bytes, change: Callable[[bytes], bytes]) -> None:
        """Change the first row whose key begins with `start`."""

        def work(txn: Any) -> None:
            cursor = txn.cursor()
            cursor.set_range(start)
            txn.put(cursor.key(), change(cursor.value()))

        shared = enter(self.path)
        shared.transaction(work, True)
        leave(shared)
