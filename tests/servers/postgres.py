"""A real PostgreSQL server that is thrown away: on a Unix socket in a folder of its own, and easy to kill."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.servers.guard import Guard
from tests.servers.missing import not_installed

REMEDY = "apt-get install postgresql (no cluster of it has to run), or put initdb and postgres on the PATH"
PATIENCE = 60.0
"""Seconds to wait for a server to do what it was told."""


def binaries() -> Path | None:
    """The folder of the newest `initdb` and `postgres` there is."""
    found = shutil.which("postgres")
    folders = [] if found is None else [Path(found).resolve().parent]
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: -float(folder.parent.name))
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


class PostgresServer:
    """One server with its own data, run by nobody where root runs the tests.

    Attributes:
        folder: everything that it has, its socket too.
        guard: ends it with the tests, however those end.
    """

    def __init__(self, programs: Path, *options: str) -> None:
        self._programs = programs
        self._options = options
        self._numbers = count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self.folder = Path(tempfile.mkdtemp(prefix="cano-pg-", dir="/tmp"))  # the path of a socket must be short
        self.guard = Guard(self.folder, "QUIT")
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:  # whom PostgreSQL refuses to serve
            shutil.chown(self.folder, "nobody")
            self._as = {"user": "nobody", "extra_groups": []}
        self._run("initdb", "--no-sync", "-A", "trust", "-U", "cano", "-E", "UTF8", "--locale=C", "-D", self._data)
        self.start()

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    @property
    def pid(self) -> int:
        """The process id of the postmaster."""
        assert self._process is not None
        return self._process.pid

    def url(self, database: str = "postgres", user: str = "cano", **options: object) -> str:
        """The URL of a database, with options behind the `?`."""
        given = "".join(f"&{name}={quote(str(value), safe='')}" for name, value in options.items())
        return f"postgresql:///{database}?host={quote(str(self.folder), safe='')}&user={user}{given}"

    def new_database(self) -> str:
        """Make a database; its name."""
        name = f"db{next(self._numbers)}"
        self.psql(f"CREATE DATABASE {name}")
        return name

    def new_url(self, **options: object) -> str:
        """The URL of a database that nobody uses yet."""
        return self.url(self.new_database(), "cano", **options)

    def psql(self, command: str, database: str = "postgres") -> str:
        """What psql prints when it runs a command: a line for each row, its columns separated by `|`."""
        place = ["-h", str(self.folder), "-U", "cano", "-d", database]
        return self._run("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", *place, "-c", command).strip()

    def start(self) -> None:
        """Start it, and return when it can be used."""
        assert self._process is None
        log = (self.folder / "log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data, "-k", self.folder, "-c", "listen_addresses=",
                 *self._options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True, **self._as,
            )  # fmt: skip
        self.guard.started(self.pid)
        deadline = time.monotonic() + PATIENCE
        while not self._is_ready():
            assert self._process.poll() is None, f"PostgreSQL did not start:\n{self.log()}"
            assert time.monotonic() < deadline, f"PostgreSQL is not ready:\n{self.log()}"
            time.sleep(0.01)

    def _is_ready(self) -> bool:
        try:
            lines = (self.folder / "data" / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def stop(self) -> None:
        """Shut it down, cutting off whoever is connected."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
        self.guard.stopped()
        self._process = None

    def kill(self) -> None:
        """Kill all of its processes on the spot, as a power failure would."""
        if self._process is None:
            return
        children = _children(self.pid)
        self._process.kill()
        self._process.wait()
        self.guard.stopped()
        for child in children:
            try:
                os.kill(child, signal.SIGKILL)
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + PATIENCE
        while any(map(_lives, children)):  # the memory that they share keeps the next server from starting
            assert time.monotonic() < deadline, "a killed server is still there"
            time.sleep(0.001)
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

    def _run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [self._programs / program, *arguments], cwd="/", capture_output=True, text=True, check=False, **self._as
        )
        assert done.returncode == 0, f"{program} failed: {done.stderr}"
        return str(done.stdout)


def _children(pid: int) -> list[int]:
    """The processes that `pid` has started, on Linux; elsewhere they are left to notice its end."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def start_postgres(*options: str) -> PostgresServer:
    """A new server; the test is failed or skipped where PostgreSQL is not installed.

    Args:
        options: more arguments of `postgres`, such as `-c`, `max_connections=5`.
    """
    programs = binaries()
    if programs is None:
        not_installed("PostgreSQL", REMEDY)
    return PostgresServer(programs, *options)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server for all tests that leave it running: take a new database of it, and do not kill it.

    It waits for no disk, which nothing but a power failure of this machine could tell.
    """
    server = start_postgres("-c", "fsync=off")
    yield server
    server.throw_away()
