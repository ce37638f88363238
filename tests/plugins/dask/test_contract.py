"""A Dask cluster keeps every promise of an executor."""

from __future__ import annotations

import pytest
from cano import Executor
from cano.testing import ExecutorContract
from cano_dask import DaskExecutor

from tests.servers.dask import DaskCluster


class TestDask(ExecutorContract):
    """A scheduler with two workers."""

    @pytest.fixture(autouse=True)
    def use(self, cluster: DaskCluster) -> None:
        """Take the cluster's address."""
        self.address = cluster.address

    def make_executor(self) -> Executor:
        """Return an executor that is connected to the scheduler."""
        return DaskExecutor(self.address)
