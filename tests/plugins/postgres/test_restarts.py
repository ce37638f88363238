"""The server is killed, restarted or cut off while runs commit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
from cano import StoreUnavailableError
from cano.testing import RestartContract
from cano_postgres import PostgresBackend

from tests.servers.postgres import PostgresServer

CUT_OFF = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"


class TestRestarts(RestartContract):
    """The contract of servers that go away, on one that waits for the disk."""

    @pytest.fixture(autouse=True)
    def _server(self, server: PostgresServer) -> None:
        self.server = server

    def make_url(self, tmp_path: Path) -> str:
        """A database of its own that is compacted early."""
        return self.server.new_url(snapshot_every=7)

    def impatient_url(self, url: str) -> str:
        """The same, with a short wait."""
        return f"{url}&retry_for=0.3"

    def kill_server(self) -> None:
        """Kill it."""
        self.server.kill()

    def start_server(self) -> None:
        """Start it."""
        self.server.start()

    def strikes(self) -> Sequence[Callable[[], object]]:
        """Killed, restarted, or without its connections."""
        return [*super().strikes(), self.server.restart, partial(self.server.psql, CUT_OFF)]


async def test_what_is_said_of_a_server_that_is_gone(server: PostgresServer) -> None:
    """The errors say how long the server was tried."""
    store = PostgresBackend(server.new_url(), retry_for=0.3)
    await store.open()
    server.kill()
    with pytest.raises(StoreUnavailableError, match=r"could not be reached for 0.3 seconds"):
        await store.load("run")
    with pytest.raises(StoreUnavailableError, match="could not be reached: "):
        await PostgresBackend(server.url(), retry_for=0.3).open()
    server.start()
    await store.close()
