"""Reading JSON Lines (a JSON object on each line), only as fast as the lines are consumed."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import stat
import sys
import threading
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, NamedTuple

from cano_cli.data import parse_line
from cano_cli.errors import CliError

STDIN = "-"
CHUNK = 65_536


class Line(NamedTuple):
    """A line that is not blank.

    Attributes:
        number: its number in the file, from 1.
        size: its size in bytes, including the blank lines before it.
        data: its JSON object; None if it is invalid.
        problem: why it is invalid, with file and line.
    """

    number: int
    size: int
    data: dict[str, Any] | None
    problem: str | None = None


class Lines:
    """The lines of a file. Iterate once with `async for`, inside a `with` block.

    Args:
        name: the file; `-` is stdin.

    Attributes:
        total: the size of the file in bytes; None if it is unknown.

    Raises:
        CliError: the file cannot be opened.
    """

    def __init__(self, name: str) -> None:
        self.total: int | None = None
        self._name = "stdin" if name == STDIN else name
        self._owned = name != STDIN
        if not self._owned and sys.stdin is None:
            raise CliError(f"--many {name}: this process has no stdin")
        try:
            self._file = open(name, "rb", buffering=0) if self._owned else sys.stdin.buffer  # noqa: SIM115
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise CliError(f"--many {name}: cannot read the file: {reason}") from error
        self._never_blocks = True  # unlike a pipe or a terminal
        self._being_read = False  # by a thread, which cannot be stopped
        with contextlib.suppress(io.UnsupportedOperation, OSError):
            about = os.fstat(self._file.fileno())
            self._never_blocks = stat.S_ISREG(about.st_mode)
            self.total = about.st_size if self._never_blocks else None

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._owned and not self._being_read:
            self._file.close()

    async def __aiter__(self) -> AsyncIterator[Line]:
        number, size = 0, 0
        try:
            async for raw in self._raw():
                number, size = number + 1, size + len(raw) + 1
                if raw.strip():
                    yield self._line(raw, number, size)
                    size = 0
        except OSError as error:
            reason = error.strerror or error
            yield Line(number + 1, size, None, f"{self._name}:{number + 1}: cannot read any further: {reason}")

    def _line(self, raw: bytes, number: int, size: int) -> Line:
        try:
            text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            return Line(number, size, parse_line(text, f"{self._name}:{number}"))
        except UnicodeDecodeError as error:
            return Line(number, size, None, f"{self._name}:{number}: not UTF-8 text (byte {error.start})")
        except CliError as error:
            return Line(number, size, None, error.message)

    async def _raw(self) -> AsyncIterator[bytes]:
        """Yield the lines as bytes, without line ends."""
        partial: list[bytes] = []
        while chunk := await self._chunk():
            *whole, rest = chunk.split(b"\n")
            for part in whole:
                yield b"".join([*partial, part])
                partial = []
            partial.append(rest)
        if last := b"".join(partial):
            yield last

    async def _chunk(self) -> bytes:
        """Read the next bytes; return b"" at the end of the file."""
        if self._never_blocks:
            return self._file.read(CHUNK)
        descriptor, self._being_read = self._file.fileno(), True
        chunk = await _in_thread(lambda: os.read(descriptor, CHUNK))
        self._being_read = False
        return chunk


async def _in_thread(read: Callable[[], bytes]) -> bytes:
    """Call `read` in a daemon thread, so that a read that never returns blocks neither the event loop nor exit."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[bytes] = loop.create_future()

    def settle(found: bytes, error: OSError | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(found)
        else:
            future.set_exception(error)

    def work() -> None:
        found, problem = b"", None
        try:
            found = read()
        except OSError as error:
            problem = error
        with contextlib.suppress(RuntimeError):  # the event loop has been closed
            loop.call_soon_threadsafe(settle, found, problem)

    threading.Thread(target=work, name="cano-cli reader", daemon=True).start()
    return await future
