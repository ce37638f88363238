"""A Dask cluster for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.dask import DaskCluster


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    """A real scheduler with two real workers."""
    with DaskCluster(tmp_path_factory.mktemp("dask")) as cluster:
        yield cluster
