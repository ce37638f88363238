"""The store contract on a Redis server."""

from __future__ import annotations

from pathlib import Path

import pytest
from cano.testing.contract import DurableStoreBackendContract

from tests.servers.redis import RedisServer


class TestRedis(DurableStoreBackendContract):
    """The contract with the default options, on a server that syncs each commit."""

    @pytest.fixture(autouse=True)
    def _server(self, redis: RedisServer) -> None:
        self.server = redis

    def make_url(self, tmp_path: Path) -> str:
        """An unused prefix."""
        return self.server.new_url()
