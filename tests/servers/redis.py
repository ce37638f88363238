"""A real Redis server that is thrown away: on a Unix socket in a folder of its own, and easy to kill."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.servers.guard import Guard
from tests.servers.missing import not_installed

REMEDY = "apt-get install redis-server (none of it has to run), or put redis-server on the PATH"
PATIENCE = 60.0
"""Seconds to wait for a server to do what it was told."""

SAFE = ("--appendonly", "yes", "--appendfsync", "always")


class RedisServer:
    """One server with its own data. Unless told otherwise, what it has acknowledged is on disk.

    Attributes:
        options: more arguments, for its next start.
        folder: everything that it has, its socket too.
        guard: ends it with the tests, however those end.
        socket: its socket.
    """

    def __init__(self, program: str, *options: str) -> None:
        self._program = program
        self.options = options
        self._numbers = count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self.folder = Path(tempfile.mkdtemp(prefix="cano-redis-", dir="/tmp"))  # the path of a socket must be short
        self.socket = self.folder / "s"
        self.guard = Guard(self.folder, "KILL")
        self.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def url(self, **options: object) -> str:
        """The URL of a store in it, with options behind the `?`."""
        given = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in options.items())
        return f"unix://{self.socket}?{given}"

    def new_prefix(self) -> str:
        """A prefix that nobody uses yet."""
        return f"store{next(self._numbers)}"

    def new_url(self, **options: object) -> str:
        """The URL of a store that nobody uses yet."""
        return self.url(prefix=self.new_prefix(), **options)

    def cli(self, *arguments: str) -> str:
        """What redis-cli prints when it gives a command."""
        done = subprocess.run(
            ["redis-cli", "-s", str(self.socket), *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.rstrip("\n")

    def start(self) -> None:
        """Start it, and return when it can be used."""
        assert self._process is None
        place = ["--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.folder), "--save", ""]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, *place, *SAFE, *self.options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True,
            )  # fmt: skip
        self.guard.started(self.pid)
        deadline = time.monotonic() + PATIENCE
        while not self._is_ready():
            assert self._process.poll() is None, f"Redis did not start:\n{self.log()}"
            assert time.monotonic() < deadline, f"Redis is not ready:\n{self.log()}"
            time.sleep(0.005)

    def _is_ready(self) -> bool:
        done = subprocess.run(["redis-cli", "-s", str(self.socket), "ping"], capture_output=True, check=False)
        return done.returncode == 0 and (b"PONG" in done.stdout or b"NOAUTH" in done.stdout)

    def stop(self) -> None:
        """Shut it down."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
        self.guard.stopped()
        self._process = None

    def kill(self) -> None:
        """Kill it on the spot."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self.guard.stopped()
        self._process = None

    def restart(self) -> None:
        """Shut it down, and start it again."""
        self.stop()
        self.start()

    def throw_away(self) -> None:
        """Kill it, and remove all that it has."""
        self.kill()
        self.guard.end()

    def log(self) -> str:
        """What it has written to its log."""
        return (self.folder / "log").read_text(errors="replace")


def start_redis(*options: str) -> RedisServer:
    """A new server; the test is failed or skipped where Redis is not installed.

    Args:
        options: more arguments of `redis-server`, such as `--appendfsync`, `no`.
    """
    program = shutil.which("redis-server")
    if program is None or shutil.which("redis-cli") is None:
        not_installed("Redis", REMEDY)
    return RedisServer(program, *options)


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    """A server for all tests that leave it running and as it is: take a new prefix of it, and do not kill it."""
    server = start_redis()
    yield server
    server.throw_away()
