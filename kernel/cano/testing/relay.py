"""`Relay`: stands between a store and its server, and loses answers or holds calls back on request."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

Address = Path | tuple[str, int]


def _any(asked: bytes, answer: bytes) -> bool:
    return True


class Relay:
    """Passes on bytes between a store and its server, both ways.

    Args:
        server: the server's Unix socket, or its host and port.
        loses: `loses(sent, answer)` returns whether `lose` applies to an answer; `sent` is all that was sent on the
            connection. By default it applies to all.

    Attributes:
        address: where the relay listens, in `listening`.
        lose: set it to lose the next answer: both ends of the connection are closed instead.
        lost: number of lost answers.
        loss: set when an answer is lost.
        crumbs: whether to pass on answers byte by byte.
    """

    def __init__(self, server: Address, loses: Callable[[bytes, bytes], bool] = _any) -> None:
        self.server = server
        self.address = server
        self.lose = self.crumbs = False
        self.lost = 0
        self.loss = asyncio.Event()
        self._loses = loses
        self._gates: list[asyncio.Event] = []
        self._holds_new = False

    def hold(self, *, new: bool = True) -> None:
        """Hold back all calls from now on; without `new`, only those on the present connections."""
        self._holds_new = new
        for gate in self._gates:
            gate.clear()

    def let_go(self) -> None:
        """Pass on what was held back, even if the store has given up the connection since."""
        self._holds_new = False
        for gate in self._gates:
            gate.set()

    @asynccontextmanager
    async def listening(self, name: str = "socket") -> AsyncIterator[Relay]:
        """Listen in this block.

        Args:
            name: the name of the Unix socket, in a folder of its own.
        """
        serving: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._serve(reader, writer))
            serving.add(task)
            task.add_done_callback(serving.discard)

        with tempfile.TemporaryDirectory(prefix="cano-", ignore_cleanup_errors=True) as folder:
            if isinstance(self.server, Path):
                self.address = Path(folder) / name
                listening = await asyncio.start_unix_server(accept, self.address)
            else:
                listening = await asyncio.start_server(accept, "127.0.0.1", 0)
                self.address = listening.sockets[0].getsockname()[:2]
            try:
                yield self
            finally:
                listening.close()
                for task in (*serving,):
                    task.cancel()
                await asyncio.gather(*serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if isinstance(self.server, Path):
            from_server, to_server = await asyncio.open_unix_connection(self.server)
        else:
            from_server, to_server = await asyncio.open_connection(*self.server)
        gate, asked = asyncio.Event(), bytearray()
        if not self._holds_new:
            gate.set()
        self._gates.append(gate)
        up = asyncio.ensure_future(self._ask(reader, to_server, gate, asked))
        down = asyncio.ensure_future(self._answer(from_server, writer, asked))
        try:
            await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
            if not gate.is_set() and not (down.done() and down.result()):
                await up  # the store has left; what is held back still reaches the server
        finally:
            self._gates.remove(gate)
            for task in (up, down):
                task.cancel()
            for each in (writer, to_server):
                each.close()
            await asyncio.gather(up, down, writer.wait_closed(), to_server.wait_closed(), return_exceptions=True)

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event, asked: bytearray
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                await gate.wait()
                asked += data
                writer.write(data)
                await writer.drain()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: bytearray) -> bool:
        """Pass on answers. Return True when one was lost."""
        with suppress(OSError):
            while data := await reader.read(65536):
                if self.lose and self._loses(bytes(asked), data):
                    self.lose = False
                    self.lost += 1
                    self.loss.set()
                    return True
                for piece in [data[at : at + 1] for at in range(len(data))] if self.crumbs else [data]:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)  # so that the store reads this piece alone
        return False
