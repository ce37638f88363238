"""The server that tests start can be killed, and comes up again with what was committed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.postgres import PostgresServer, start_postgres


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server of this test alone."""
    server = start_postgres()
    yield server
    server.throw_away()


def test_it_can_be_killed_and_restarted(server: PostgresServer) -> None:
    """After a kill, and after a restart, all is there that was committed."""
    database = server.new_database()
    server.psql("CREATE TABLE kept (number int)", database)
    for number in range(3):
        server.psql(f"INSERT INTO kept VALUES ({number})", database)
        if number % 2:
            server.restart()
        else:
            server.kill()
            server.start()

    assert server.psql("SELECT number FROM kept ORDER BY number", database).splitlines() == ["0", "1", "2"]
