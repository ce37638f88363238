"""The store contract, all of it, on a real Redis server."""

from __future__ import annotations

from pathlib import Path

import pytest
from cano.testing.contract import DurableStoreBackendContract

from tests.servers.redis import RedisServer


class TestRedis(DurableStoreBackendContract):
    """The contract with the default options, on a server that puts all on disk at once."""

    @pytest.fixture(autouse=True)
    def _server(self, redis: RedisServer) -> None:
        self.server = redis

    def make_url(self, tmp_path: Path) -> str:
        """A prefix that nobody uses yet."""
        return self.server.new_url()
