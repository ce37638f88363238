"""What the tests of durability share: an empty store of each kind that we have."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from cano import StoreBackend

from tests.acceptance.durability.crowd import PIPE
from tests.acceptance.durability.shared import Shared
from tests.acceptance.durability.workers import Told


@pytest.fixture(params=["memory", "sqlite", "postgres", "redis"])
def url(request: pytest.FixtureRequest, url_of: Callable[[str], str]) -> str:
    """The URL of an empty store of each kind."""
    return "memory://?strict=1" if request.param == "memory" else url_of(request.param)


@pytest.fixture
def store(url: str) -> str | StoreBackend:
    """An empty store of each kind that keeps its runs when a kernel closes: its URL, or the store."""
    return Shared(strict=True) if url.startswith("memory:") else url


@pytest.fixture(params=["memory", "sqlite", "postgres", "redis", "encrypted"])
def any_store(
    request: pytest.FixtureRequest, url_of: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> str | StoreBackend:
    """As `store`, and an encrypted one."""
    if request.param == "memory":
        return Shared(strict=True)
    if request.param == "encrypted":
        monkeypatch.setenv("CANO_ENCRYPTION_KEYS", "k:Z29sZGVuIGdvbGRlbiBnb2xkZW4gZ29sZGVuIGdvbGQ=")
        return f"{url_of('sqlite')}?codec=encrypt"
    return url_of(request.param)


@pytest.fixture
async def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Told]:
    """The pipe that steps of workers write into."""
    monkeypatch.setenv(PIPE, str(tmp_path / "told"))
    told = Told(tmp_path / "told")
    yield told
    told.close()
