"""What the acceptance tests share: every durable store of ours; the kernel's wheel, and a venv that has it alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.venvs import ROOT, Venv, build_wheel
from tests.servers.postgres import PostgresServer
from tests.servers.redis import RedisServer


@pytest.fixture(scope="session")
def kernel_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kernel's wheel."""
    return build_wheel(ROOT / "kernel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def kernel_venv(kernel_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Venv:
    """A venv with the kernel's wheel alone."""
    return Venv(tmp_path_factory.mktemp("alone") / "venv", kernel_wheel)


@pytest.fixture
def url_of(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """Return the URL of an empty durable store of a kind."""

    def url(kind: str) -> str:
        if kind == "sqlite":
            return f"sqlite:///{tmp_path / 'runs.db'}"
        server: PostgresServer | RedisServer = request.getfixturevalue(kind)
        return server.new_url()

    return url


@pytest.fixture(params=["sqlite", "postgres", "redis"])
def store_url(request: pytest.FixtureRequest, url_of: Callable[[str], str]) -> str:
    """The URL of a durable store that nobody uses yet, for each kind of store that we have."""
    return url_of(request.param)
