"""A store in a schema of its own, and a second connection to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from itertools import count
from typing import Any

import psycopg
import pytest
from cano.testing import Relay
from cano_postgres import PostgresBackend

from tests.plugins.postgres.relay import SOCKET, place_of, relay_to
from tests.servers.postgres import PostgresServer, start_postgres

_numbers = count(1)


@pytest.fixture(scope="session")
def database(postgres: PostgresServer) -> str:
    """A database for all tests that do not need an empty one."""
    return postgres.new_database()


@pytest.fixture
def schema() -> str:
    """The name of a schema that does not exist yet."""
    return f"tests{next(_numbers)}"


@pytest.fixture
def url(postgres: PostgresServer, database: str) -> str:
    """The database's URL."""
    return postgres.url(database)


@pytest.fixture
async def store(url: str, schema: str) -> AsyncIterator[PostgresBackend]:
    """An open store that compacts early."""
    store = PostgresBackend(url, schema=schema, snapshot_every=5)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def ask(url: str, schema: str) -> Iterator[Callable[..., list[Any]]]:
    """Execute a statement in the schema on a connection of its own, and return the rows."""
    with psycopg.connect(url, autocommit=True, options=f"-c search_path={schema}") as connection:

        def run(statement: Any, *values: Any) -> list[Any]:
            cursor = connection.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

        yield run


@pytest.fixture
async def between(postgres: PostgresServer) -> AsyncIterator[Relay]:
    """A relay to the server."""
    async with relay_to(postgres).listening(SOCKET) as between:
        yield between


@pytest.fixture
async def remote(between: Relay, store: PostgresBackend, database: str, schema: str) -> AsyncIterator[PostgresBackend]:
    """A store behind the relay, the same as `store`."""
    remote = PostgresBackend(f"postgresql:///{database}?host={place_of(between)}&user=cano", schema=schema)
    await remote.open()
    yield remote
    await remote.close()


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server that the tests of this module may kill and restart, and must leave running. It waits for the disk."""
    server = start_postgres()
    yield server
    server.throw_away()
