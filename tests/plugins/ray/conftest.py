"""One Ray cluster for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import ray as servers


@pytest.fixture(scope="session")
def _clusters() -> Iterator[None]:
    """End the cluster with the tests."""
    yield
    servers.disconnected()


@pytest.fixture
def ray_cluster(_clusters: None) -> str:
    """The address of the head of a real cluster."""
    return servers.connected()
