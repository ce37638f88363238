"""The store contract on a PostgreSQL server."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import psycopg
import pytest
from cano.testing.contract import DurableStoreBackendContract

from tests.servers.postgres import PostgresServer

_numbers = count(1)


class TestPostgres(DurableStoreBackendContract):
    """The contract with the default options."""

    server: PostgresServer
    database: str

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _server(cls, postgres: PostgresServer) -> None:
        cls.server = postgres
        cls.database = postgres.new_database()

    def make_url(self, tmp_path: Path) -> str:
        """A schema of its own in one database, which is created faster than a database."""
        return self.server.url(self.database, schema=f"contract{next(_numbers)}", snapshot_every=7)

    def connect(self, url: str) -> psycopg.Connection[tuple[object, ...]]:
        """A connection to the database."""
        return psycopg.connect(self.server.url(self.database))
