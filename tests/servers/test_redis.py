"""The server that tests start can be killed, and comes up again with what was acknowledged."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.redis import RedisServer, start_redis


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server of this test alone."""
    server = start_redis()
    yield server
    server.throw_away()


def test_it_can_be_killed_and_restarted(server: RedisServer) -> None:
    """After a kill, and after a restart, all is there that was acknowledged."""
    for number in range(4):
        server.cli("rpush", "kept", str(number))
        if number % 2:
            server.restart()
        else:
            server.kill()
            server.start()

    assert server.cli("lrange", "kept", "0", "-1").splitlines() == ["0", "1", "2", "3"]


def test_it_is_safe_unless_told_otherwise(server: RedisServer) -> None:
    """What it acknowledges is on disk."""
    assert server.cli("config", "get", "appendfsync").split() == ["appendfsync", "always"]
    assert server.cli("config", "get", "appendonly").split() == ["appendonly", "yes"]
