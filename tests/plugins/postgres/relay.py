"""Something between a store and its server that loses answers, or goes silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

SOCKET = ".s.PGSQL.5432"
_DONE = (b"SELECT ", b"INSERT 0 ", b"UPDATE ", b"DELETE ")
"""What the answer says to a statement that was carried out."""


class Relay:
    """Hands on what comes, both ways, until it is told otherwise.

    Attributes:
        folder: where it listens.
        lose: while True, the next answer to a store's connection that writes is not handed on: both ends are cut off
            once the server has given it.
        lost: how many answers were lost.
        loss: set when one is lost.
        silent: while it is cleared, nothing of what is asked on any connection is handed on.
        crumbs: whether answers are handed on byte by byte.
    """

    def __init__(self, folder: Path, server: Path) -> None:
        self.folder = folder
        self._server = server
        self.lose = self.crumbs = False
        self.lost = 0
        self.loss = asyncio.Event()
        self.silent = asyncio.Event()
        self.silent.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        from_server, to_server = await asyncio.open_unix_connection(self._server / SOCKET)
        writes = asyncio.Event()
        up = asyncio.ensure_future(self._ask(reader, to_server, writes))
        down = asyncio.ensure_future(self._answer(from_server, writer, writes))
        try:
            await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (up, down):
                task.cancel()
            for each in (writer, to_server):
                each.close()
            await asyncio.gather(up, down, writer.wait_closed(), to_server.wait_closed(), return_exceptions=True)

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, writes: asyncio.Event) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                await self.silent.wait()
                writer.write(data)
                await writer.drain()
                if b"pg_advisory_lock" in data:
                    writes.set()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, writes: asyncio.Event) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if self.lose and writes.is_set() and any(tag in data for tag in _DONE):
                    self.lose = False
                    self.lost += 1
                    self.loss.set()
                    return
                for piece in [data[at : at + 1] for at in range(len(data))] if self.crumbs else [data]:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)  # whoever reads gets to see this piece alone


@asynccontextmanager
async def relay(folder: Path, server: Path) -> AsyncIterator[Relay]:
    """A relay to the server whose socket is in the folder `server`."""
    between = Relay(folder, server)
    serving: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(between.serve(reader, writer))
        serving.add(task)
        task.add_done_callback(serving.discard)

    listening = await asyncio.start_unix_server(accept, folder / SOCKET)
    try:
        yield between
    finally:
        listening.close()
        for task in (*serving,):
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
