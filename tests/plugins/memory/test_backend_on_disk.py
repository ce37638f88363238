"""A small store on disk passes the durable contract; each variant that breaks a clause fails that clause."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from cano import CanoError, StoreBackend
from cano.testing import DurableStoreBackendContract, StoreBackendContract

from tests.plugins.memory import stores_on_disk
from tests.plugins.memory.stores_on_disk import (
    Alone,
    Boastful,
    Careless,
    Discreet,
    Fleeting,
    Forgetful,
    Gossip,
    Hasty,
    Hushed,
    Indiscreet,
    LogBackend,
    Modest,
    Mute,
    Neither,
    NoHistory,
    NoRetention,
    Partial,
    Secretive,
    Shredder,
    Shy,
    Sly,
    Streaming,
    Telling,
    Terse,
    Touchy,
)

pytestmark = pytest.mark.slow

BROKEN: dict[type[LogBackend], str] = {
    Modest: "durable_is_declared",
    Boastful: "news_is_told",
    Shy: "news_is_told",
    Mute: "news_is_told",
    Secretive: "news_is_told",
    Terse: "news_is_told_of_any_id",
    Hushed: "chunks_are_told",
    Discreet: "chunks_are_told",
    Fleeting: "streams_survive_reopening",
    Touchy: "a_watcher_that_raises_is_told_again",
    Indiscreet: "after_closing_nothing_is_told",
    Gossip: "two_processes_create_each_run_once two_processes_commit_each_transition_once "
    "a_killed_process_leaves_a_prefix",
    Shredder: "everything_survives_reopening two_backends_see_the_same",
    Sly: "everything_survives_reopening two_backends_see_the_same",
    Forgetful: "everything_survives_reopening two_backends_see_the_same",
    Hasty: "a_killed_process_leaves_a_prefix",
    Careless: "closing_finishes_what_is_under_way",
    Partial: "a_killed_process_leaves_a_prefix everything_survives_reopening",
    Alone: "two_backends_see_the_same two_processes_create_each_run_once two_processes_claim_each_run_once "
    "no_two_processes_get_one_token two_processes_commit_each_transition_once",
}
PAIRS = [(store, f"test_{clause}") for store, clauses in BROKEN.items() for clause in clauses.split()]
HONEST: list[type[LogBackend]] = [NoHistory, NoRetention, Telling, Streaming, Neither]
CLAUSES = {name for name in set(dir(DurableStoreBackendContract)) - set(dir(StoreBackendContract)) if "test_" in name}
IN_ONE_PROCESS = {clause for clause in CLAUSES if not {"process", "processes"} & set(clause.split("_"))}
KEPT = [(store, clause) for store in HONEST for clause in sorted(CLAUSES if store is Neither else IN_ONE_PROCESS)]


class OnDisk(DurableStoreBackendContract):
    """The durable contract for one of the stores above."""

    store: type[LogBackend] = LogBackend

    def make_url(self, tmp_path: Path) -> str:
        """A log in the test's own folder."""
        return f"log://{tmp_path}/log"

    def open_backend(self, url: str) -> StoreBackend:
        """The store."""
        return self.store(url)

    def worker_command(self, url: str, *arguments: str) -> Sequence[str]:
        """Run the module of the stores as a program."""
        return [sys.executable, stores_on_disk.__file__, self.store.__name__, url, *arguments]


class TestOnDisk(OnDisk):
    """The store on disk keeps the contract."""


@pytest.mark.parametrize(("store", "clause"), PAIRS)
def test_a_broken_store_fails_its_clause(store: type[LogBackend], clause: str, tmp_path: Path) -> None:
    """A store that breaks one clause fails the test of that clause."""
    contract = OnDisk()
    contract.store = store
    if store in (Mute, Hushed, Discreet, Secretive, Terse, Touchy):
        contract.patience = 4  # nothing is told however long one waits

    with pytest.raises((AssertionError, CanoError)) as failed:
        getattr(contract, clause)(tmp_path)
    assert str(failed.value)


@pytest.mark.parametrize(("store", "clause"), KEPT)
def test_an_honest_store_keeps_every_clause(store: type[LogBackend], clause: str, tmp_path: Path) -> None:
    """A store without an optional feature, or with notifications, passes the clause, and no clause is skipped."""
    contract = OnDisk()
    contract.store = store
    getattr(contract, clause)(tmp_path)


def test_every_clause_has_a_store_that_fails_it() -> None:
    """For every clause of the durable contract there is a store above that fails it."""
    assert {clause for _, clause in PAIRS} == CLAUSES


def test_a_worker_that_fails_is_noticed(tmp_path: Path) -> None:
    """A worker that ends early fails the clause, rather than letting it wait for ever."""

    class NoWorker(OnDisk):
        def worker_command(self, url: str, *arguments: str) -> Sequence[str]:
            return [sys.executable, "-c", "raise SystemExit(3)"]

    with pytest.raises(AssertionError, match="ended early with exit status 3"):
        NoWorker().test_no_two_processes_get_one_token(tmp_path)
