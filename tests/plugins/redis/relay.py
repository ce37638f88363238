"""A relay between a store and its Redis server."""

from __future__ import annotations

from cano.testing import Relay

from tests.servers.redis import RedisServer


def relay_to(server: RedisServer) -> Relay:
    """Return a relay to `server`, not yet listening. A notification is not an answer."""
    return Relay(server.socket, lambda asked, answer: not answer.startswith(b"*3\r\n$7\r\nmessage"))
