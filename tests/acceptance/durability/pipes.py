"""A pipe that steps of other processes write lines into, and a test reads."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


class LinePipe:
    """Reads the lines as they come.

    Args:
        path: where to make the pipe.
        note: called with each line.
    """

    def __init__(self, path: Path, note: Callable[[str], object]) -> None:
        os.mkfifo(path)
        self._note = note
        self._pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._news = asyncio.Event()
        self._rest = b""
        asyncio.get_running_loop().add_reader(self._pipe, self._read)

    def _read(self) -> None:
        *lines, self._rest = (self._rest + os.read(self._pipe, 1 << 16)).split(b"\n")
        for line in lines:
            self._note(line.decode())
        self._news.set()

    async def until(self, met: Callable[[], bool]) -> None:
        """Return when a condition is met, which is asked after each read."""
        while not met():
            self._news.clear()
            await self._news.wait()

    def close(self) -> None:
        """Read what is left, and no more."""
        asyncio.get_running_loop().remove_reader(self._pipe)
        with suppress(BlockingIOError):
            while True:
                self._read()
        os.close(self._pipe)
