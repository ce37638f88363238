"""Something between a store and its server that loses answers, and holds questions back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path


class Relay:
    """Hands on what comes, both ways, until it is told otherwise.

    Attributes:
        socket: where it listens.
        lose: while True, the next answer is not handed on: both ends are cut off once the server has given it.
        lost: how many answers were lost.
    """

    def __init__(self, socket: Path, server: Path) -> None:
        self.socket = socket
        self._server = server
        self.lose = False
        self.lost = 0
        self._gates: list[asyncio.Event] = []

    def hold(self) -> None:
        """Hand on nothing more that is asked on the connections that there are now."""
        for gate in self._gates:
            gate.clear()

    def let_go(self) -> None:
        """Hand on what was held back."""
        for gate in self._gates:
            gate.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        from_server, to_server = await asyncio.open_unix_connection(self._server)
        gate = asyncio.Event()
        gate.set()
        self._gates.append(gate)
        up = asyncio.ensure_future(self._ask(reader, to_server, gate))
        down = asyncio.ensure_future(self._answer(from_server, writer))
        try:
            await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
            if not gate.is_set():
                await up  # what is stuck gets there in the end
        finally:
            for task in (up, down):
                task.cancel()
            await asyncio.gather(up, down, return_exceptions=True)
            for each in (writer, to_server):
                each.close()
                with suppress(OSError):
                    await each.wait_closed()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                await gate.wait()
                writer.write(data)
                await writer.drain()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if self.lose and not data.startswith(b"*3\r\n$7\r\nmessage"):
                    self.lose = False
                    self.lost += 1
                    return
                writer.write(data)
                await writer.drain()


@asynccontextmanager
async def relay(folder: Path, server: Path) -> AsyncIterator[Relay]:
    """A relay to the server that listens at the socket `server`."""
    between = Relay(folder / "relay", server)
    listening = await asyncio.start_unix_server(between.serve, between.socket)
    try:
        yield between
    finally:
        between.let_go()
        listening.close()
