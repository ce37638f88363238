"""`Listener`: takes the reports of calls from the worker processes of Ray."""

from __future__ import annotations

import asyncio
import hmac
import secrets
from contextlib import suppress

from cano_remote.channel import Channel

from cano_ray import worker


class Listener:
    """Listens for the connections of worker processes, and hands their reports to a channel.

    Attributes:
        address: its host and port.
        token: what a connection begins with; any other one is closed.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()
        self.address = "", 0
        self.token = secrets.token_bytes(worker.TOKEN_BYTES)

    async def open(self, host: str) -> None:
        """Listen at `host`, the address of this node in its cluster, at a free port."""
        self._server = await asyncio.start_server(self._take, host, 0)
        self.address = host, self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        """Listen no more, and end the connections."""
        if self._server is not None:
            self._server.close()
        for writer in self._connections:
            writer.close()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            with suppress(asyncio.IncompleteReadError, OSError):
                if not hmac.compare_digest(await reader.readexactly(worker.TOKEN_BYTES), self.token):
                    return
                while True:
                    key, data = worker.FRAME.unpack(await reader.readexactly(worker.FRAME.size))
                    name = (await reader.readexactly(key)).decode(errors="replace")
                    self._channel.take(name, await reader.readexactly(data))
        finally:
            self._connections.discard(writer)
            writer.close()
