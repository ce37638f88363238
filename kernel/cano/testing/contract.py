"""The store contract as test classes: what every `StoreBackend` promises, one test for each clause.

Subclass one in a test module of yours, and pytest runs all of it on your store:

    class TestMyStore(DurableStoreBackendContract):
        def make_url(self, tmp_path):
            return f"mystore:///{tmp_path}/runs"

The plugin that answers the URL must be installed; or override `open_backend`. No pytest plugin is needed.

Three more contracts need more than a URL: `DamageContract` corrupts rows, and for stores on a server
`LostAnswersContract` cuts connections off and `RestartContract` kills the server.
"""

from __future__ import annotations

from cano.testing.contract_base import Contract
from cano.testing.contract_commit import CommitClauses
from cano.testing.contract_create import CreateClauses
from cano.testing.contract_delete import DeleteClauses
from cano.testing.contract_durable import DurableClauses
from cano.testing.contract_history import HistoryClauses
from cano.testing.contract_lease import LeaseClauses
from cano.testing.contract_life import LifeClauses
from cano.testing.contract_news import NewsClauses
from cano.testing.contract_ready import ReadyClauses
from cano.testing.contract_runs import RunsClauses
from cano.testing.contract_signal import SignalClauses
from cano.testing.contract_urls import UrlClauses
from cano.testing.contract_values import ValueClauses


class StoreBackendContract(
    CreateClauses,
    ValueClauses,
    CommitClauses,
    HistoryClauses,
    LeaseClauses,
    SignalClauses,
    RunsClauses,
    ReadyClauses,
    DeleteClauses,
    LifeClauses,
    UrlClauses,
    Contract,
):
    """What every store promises. A subclass says which one to test: see `make_url` and `open_backend`."""


class DurableStoreBackendContract(StoreBackendContract, DurableClauses, NewsClauses):
    """What a store promises on top that outlives the process: crashes, several processes at once, notifications.

    Its workers are processes of their own, which open the store by its URL: see `worker_command`.
    """
