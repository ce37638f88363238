"""A relay between a store and its PostgreSQL server."""

from __future__ import annotations

from cano.testing import Relay

from tests.servers.postgres import PostgresServer

SOCKET = ".s.PGSQL.5432"
_DONE = (b"SELECT ", b"INSERT 0 ", b"UPDATE ", b"DELETE ")
"""The tags of answers to executed statements."""


def relay_to(server: PostgresServer) -> Relay:
    """Return a relay to `server`, not yet listening. It loses answers to the writing connection."""

    def loses(asked: bytes, answer: bytes) -> bool:
        return b"pg_advisory_lock" in asked and any(tag in answer for tag in _DONE)

    return Relay(server.folder / SOCKET, loses)


def place_of(relay: Relay) -> str:
    """Return the place where a relay listens, as libpq's parameter `host`."""
    return str(relay.address).removesuffix(f"/{SOCKET}")
