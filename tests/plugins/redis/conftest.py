"""A store in a real server, and a second connection to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from cano_redis import RedisBackend

from tests.servers.redis import RedisServer, start_redis


@pytest.fixture
def prefix(redis: RedisServer) -> str:
    """An unused prefix."""
    return redis.new_prefix()


@pytest.fixture
async def store(redis: RedisServer, prefix: str) -> AsyncIterator[RedisBackend]:
    """An open store."""
    store = RedisBackend(path=str(redis.socket), prefix=prefix)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def a_server() -> Iterator[Callable[..., RedisServer]]:
    """Start servers for this test, with more arguments of `redis-server`."""
    with ExitStack() as stack:

        def start(*options: str) -> RedisServer:
            server = start_redis(*options)
            stack.callback(server.throw_away)
            return server

        yield start


Ask = Callable[..., Any]


@pytest.fixture
async def ask(redis: RedisServer, prefix: str) -> AsyncIterator[Ask]:
    """Send a command to the server. A name that begins with `:` is one of the store's keys."""
    from redis.asyncio import Redis

    client = Redis(unix_socket_path=str(redis.socket))

    async def run(*words: Any) -> Any:
        full = (f"{{{prefix}}}{word}" if isinstance(word, str) and word.startswith(":") else word for word in words)
        return await client.execute_command(*full)  # type: ignore[no-untyped-call]

    yield run
    await client.aclose()
