"""What the tests of durability share: an empty store of each kind that we have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cano import StoreBackend

from tests.acceptance.durability.shared import Shared
from tests.servers.postgres import PostgresServer
from tests.servers.redis import RedisServer


@pytest.fixture
def url_of(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """Return the URL of an empty store of a kind."""

    def url(kind: str) -> str:
        if kind == "sqlite":
            return f"sqlite:///{tmp_path / 'runs.db'}"
        server: PostgresServer | RedisServer = request.getfixturevalue(kind)
        return server.new_url()

    return url


@pytest.fixture(params=["memory", "sqlite", "postgres", "redis"])
def url(request: pytest.FixtureRequest, url_of: Callable[[str], str]) -> str:
    """The URL of an empty store of each kind."""
    return "memory://?strict=1" if request.param == "memory" else url_of(request.param)


@pytest.fixture
def store(url: str) -> str | StoreBackend:
    """An empty store of each kind that keeps its runs when a kernel closes: its URL, or the store."""
    return Shared(strict=True) if url.startswith("memory:") else url
