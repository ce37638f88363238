"""Gives each test a copy of every store in the series, and of one that the present program writes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from cano import holders

from tests.acceptance.golden import flows
from tests.acceptance.golden.copies import HERE, SERIES, Golden
from tests.acceptance.golden.expected import RUNS
from tests.acceptance.golden.kinds import KEYS, KINDS
from tests.acceptance.venvs import ROOT
from tests.servers.postgres import PostgresServer
from tests.servers.redis import RedisServer

TODAY = "today"
Copy = Callable[[str], Golden]


@pytest.fixture(autouse=True)
def on_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read as another machine than the one that wrote the data, where a living process may have a holder's PID."""
    monkeypatch.setattr(holders, "_pid_namespace", lambda: "another")


class Shared:
    """The servers of the session. Each is started when a test first needs it."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._request = request

    def postgres(self) -> PostgresServer:
        """The PostgreSQL server."""
        server: PostgresServer = self._request.getfixturevalue("postgres")
        return server

    def redis(self) -> RedisServer:
        """The Redis server."""
        server: RedisServer = self._request.getfixturevalue("redis")
        return server


@pytest.fixture(scope="session")
def today(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the present program writes: so the writer works when the next one of the series is due."""
    folder = tmp_path_factory.mktemp("golden")
    command = [sys.executable, "-m", "tests.acceptance.golden.write", str(folder), "sqlite"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=100)
    return folder


def stores(kinds: Iterable[str]) -> list[str]:
    """Name every store of these kinds, as the parameters of a fixture. A folder may lack kinds that came after it."""
    found = [(name, kind) for kind in kinds for name in SERIES if (HERE / name / KINDS[kind].file).exists()]
    return [*(f"{name} {kind}" for name, kind in sorted(found)), f"{TODAY} sqlite"]


@pytest.fixture
def copy(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Copy:
    """Makes a new copy of a store. The bank that its workflows charge is open."""
    monkeypatch.setenv("CANO_ENCRYPTION_KEYS", KEYS)
    monkeypatch.setattr(flows.BANK, "is_open", True)
    monkeypatch.setattr(flows, "BODIES", [])

    def make(store: str) -> Golden:
        name, _, kind = store.partition(" ")
        folder = request.getfixturevalue("today") if name == TODAY else HERE / name
        number = sys.maxsize if name == TODAY else int(name.partition("-")[0])
        layered = KINDS[kind].layered
        runs = {id: run for id, run in RUNS.items() if run.since <= number and (run.layered or not layered)}
        return Golden(KINDS[kind].copy(folder, tmp_path, Shared(request)), runs, number)

    return make


@pytest.fixture(params=stores(KINDS))
def golden(request: pytest.FixtureRequest, copy: Copy) -> Golden:
    """A copy of each store."""
    return copy(request.param)


@pytest.fixture(params=stores(name for name, kind in KINDS.items() if not kind.layered))
def complete(request: pytest.FixtureRequest, copy: Copy) -> Golden:
    """A copy of each store without a layer around its codec: these contain all runs."""
    return copy(request.param)
