"""The in-memory backend keeps the contract, strict or not."""

from __future__ import annotations

from pathlib import Path

from cano.testing import StoreBackendContract


class TestMemory(StoreBackendContract):
    """Values are stored as objects."""

    def make_url(self, tmp_path: Path) -> str:
        """The default store."""
        return "memory://"


class TestStrictMemory(StoreBackendContract):
    """Values are bytes, as in a durable store."""

    def make_url(self, tmp_path: Path) -> str:
        """The strict store."""
        return "memory://?strict=1"
