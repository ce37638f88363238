"""A sealed store keeps every promise of the store that it seals."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from cano import Kernel, StoreBackend
from cano.testing import StoreBackendContract

PLUGINS = Kernel()


class TestSealedStore(StoreBackendContract):
    """The contract on a file whose URL names the encryption layer."""

    def make_url(self, tmp_path: Path) -> str:
        """Return the URL of a new file."""
        return f"sqlite:///{tmp_path}/runs.db?synchronous=normal"

    def open_backend(self, url: str) -> StoreBackend:
        """Return the sealed store at `url`."""
        backend, _ = PLUGINS.store_at(f"{url}&codec=encrypt:errors")
        assert backend is not None
        return backend

    def connect(self, url: str) -> sqlite3.Connection:
        """A connection to the file."""
        return sqlite3.connect(url.partition("?")[0].removeprefix("sqlite:///"))
