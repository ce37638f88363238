"""Frames: byte strings on a socket between an executor and a worker, each after its length."""

from __future__ import annotations

import socket
import struct

_LENGTH = struct.Struct("!Q")
NAME = "__mp_main__"
"""The name of a worker's main module, as with multiprocessing: what is for `__name__ == "__main__"` is not executed."""
NOT_IMPORTED = 202
"""The exit code of a worker that could not import the program."""
RETURNED, RAISED, REPORTED = b"+", b"-", b"!"
"""The first byte of what a worker sends: before what the call returned, the text of what it raised, or a report."""
PLAIN, REPORTING, END = b"-", b"!", b"\0"
"""A call is one of the first two, the function's name, END, and the request. REPORTING: the function may report."""


def send(connection: socket.socket, *parts: bytes) -> None:
    """Send the parts as one frame. Raises OSError if the other side is gone."""
    connection.sendall(b"".join((_LENGTH.pack(sum(map(len, parts))), *parts)))


def receive(connection: socket.socket) -> bytes | None:
    """Return the next frame, or None if the other side is gone."""
    try:
        head = _exactly(connection, _LENGTH.size)
        return None if head is None else _exactly(connection, _LENGTH.unpack(head)[0])
    except ConnectionError:
        return None


def _exactly(connection: socket.socket, size: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(min(size - len(parts), 1 << 20))
        if not part:
            return None
        parts += part
    return bytes(parts)
