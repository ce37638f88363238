"""The store contract as test classes: the promises of every `StoreBackend`, one test for each clause.

Subclass one in a test module, and pytest runs all of it on your store:

    class TestMyStore(DurableStoreBackendContract):
        def make_url(self, tmp_path):
            return f"mystore:///{tmp_path}/runs"

The plugin that opens the URL must be installed; or override `open_backend`. No pytest plugin is needed.

Three more contracts need more than a URL: `DamageContract` corrupts rows, and for stores on a server
`LostAnswersContract` closes connections and `RestartContract` kills the server.
"""

from __future__ import annotations

from cano.testing.contract_appends import AppendClauses
from cano.testing.contract_attributes import AttributeClauses
from cano.testing.contract_audit import AuditClauses
from cano.testing.contract_base import Contract
from cano.testing.contract_claim import ClaimClauses
from cano.testing.contract_commit import CommitClauses
from cano.testing.contract_connections import ConnectionClauses
from cano.testing.contract_create import CreateClauses
from cano.testing.contract_delete import DeleteClauses
from cano.testing.contract_durable import DurableClauses
from cano.testing.contract_history import HistoryClauses
from cano.testing.contract_lease import LeaseClauses
from cano.testing.contract_life import LifeClauses
from cano.testing.contract_limit import LimitClauses
from cano.testing.contract_news import NewsClauses
from cano.testing.contract_own import OwnClauses
from cano.testing.contract_prune import PruneClauses
from cano.testing.contract_queue import QueueClauses
from cano.testing.contract_ready import ReadyClauses
from cano.testing.contract_rewrite import RewriteClauses
from cano.testing.contract_runs import RunsClauses
from cano.testing.contract_scope import ScopeClauses
from cano.testing.contract_signal import SignalClauses
from cano.testing.contract_slots import SlotClauses
from cano.testing.contract_streams import StreamClauses
from cano.testing.contract_transactions import TransactionClauses
from cano.testing.contract_urls import UrlClauses
from cano.testing.contract_values import ValueClauses


class StoreBackendContract(
    CreateClauses,
    ValueClauses,
    CommitClauses,
    AppendClauses,
    HistoryClauses,
    LeaseClauses,
    SignalClauses,
    OwnClauses,
    RunsClauses,
    AttributeClauses,
    ReadyClauses,
    DeleteClauses,
    AuditClauses,
    PruneClauses,
    ClaimClauses,
    QueueClauses,
    ScopeClauses,
    LimitClauses,
    RewriteClauses,
    StreamClauses,
    SlotClauses,
    TransactionClauses,
    ConnectionClauses,
    LifeClauses,
    UrlClauses,
    Contract,
):
    """The promises of every store. A subclass names the store to test: see `make_url` and `open_backend`."""


class DurableStoreBackendContract(StoreBackendContract, DurableClauses, NewsClauses):
    """The promises of a durable store: also crashes, several processes at once, notifications.

    Its workers are separate processes, which open the store by its URL: see `worker_command`.
    """
