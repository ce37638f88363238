"""The function that a worker process of Ray executes for each call."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from functools import cache
from importlib.util import find_spec
from multiprocessing.spawn import get_preparation_data, prepare
from typing import Any, NamedTuple

PATIENCE = 10.0
"""Seconds that connecting to an executor's process may take."""
FRAME = struct.Struct("!HI")
"""The head of a report: the lengths of its key and of its data."""
TOKEN_BYTES = 32
NAME, PATH = "init_main_from_name", "init_main_from_path"
_prepared = threading.Event()
_lock = threading.Lock()


def main_program() -> dict[str, str]:
    """Return how another process imports the main program of this one, if it can."""
    data = get_preparation_data("cano-ray")
    return {key: data[key] for key in (NAME, PATH) if key in data}


class Channel(NamedTuple):
    """The way to an executor's process for the reports of one call. `cano_ray.listener.Listener` is its other end.

    Attributes:
        address: host and port of the process.
        token: proves that the reports come from a call of that process.
        key: stands for the call.
    """

    address: tuple[str, int]
    token: bytes
    key: str


class Reporting:
    """Sends the reports of one call. If the process cannot be reached, they are kept, to come with the answer."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._lock = threading.Lock()
        self.sent = 0
        self.kept: list[bytes] = []

    def __call__(self, data: bytes) -> None:
        """Send a report."""
        with self._lock:
            connection = None if self.kept else _connection(self._channel.address, self._channel.token)
            try:
                if connection is not None:
                    key = self._channel.key.encode()
                    connection.sendall(FRAME.pack(len(key), len(data)) + key + data)
                    self.sent += 1
                    return
            except OSError:  # what arrived of it is not a whole report
                _connection.cache_clear()
            self.kept.append(data)


@cache
def _connection(address: tuple[str, int], token: bytes) -> socket.socket | None:
    """Return the connection of this process to that of an executor; None if there is none."""
    try:
        made = socket.create_connection(address, timeout=PATIENCE)
        made.settimeout(None)
        made.sendall(token)
    except OSError:
        return None
    return made


def execute(
    function: Callable[..., bytes], args: tuple[bytes, ...], main: Mapping[str, str], channel: Channel | None = None
) -> Any:
    """Execute a call, after the main program was imported, so that its `__main__` is found here by that name.

    Args:
        function: the function.
        args: its arguments.
        main: what `main_program` returned. Another machine may not have that program, and is then without it.
        channel: where the function's reports go. With it, their number, and those that could not be sent, come with
            the answer.
    """
    with _lock:
        if not _prepared.is_set():
            if os.path.isfile(main.get(PATH, "")) or (NAME in main and find_spec(main[NAME]) is not None):
                prepare(dict(main))
            _prepared.set()
    if channel is None:
        return function(*args)
    report = Reporting(channel)
    return function(*args, report), report.sent, report.kept
