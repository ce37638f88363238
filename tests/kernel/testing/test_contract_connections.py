"""The contract of stores that join users' transactions: each of its clauses fails on a store that breaks it."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cano import AuditEntry, CanoError, ConfigurationError, RunRecord, Signal
from cano.testing.contract_connections import ConnectionClauses
from cano_memory import MemoryBackend

from tests.kernel.testing.test_contract import Methods, OnStore, broken

CLAUSES = sorted(name for name in dir(ConnectionClauses) if name.startswith("test_"))


class UserConnection:
    """A connection of a user to a `Joining` store, with what its transaction has stored.

    Attributes:
        calls: the calls that a commit makes.
        closed: whether it was closed.
    """

    def __init__(self, store: Joining) -> None:
        self.store = store
        self.calls: list[tuple[Any, ...]] = []
        self.closed = False

    async def commit(self) -> None:
        """Make the calls."""
        calls, self.calls = self.calls, []
        for name, run_id, *given in calls:
            await getattr(MemoryBackend, name)(self.store, *given)
            self.store.told(run_id)

    async def rollback(self) -> None:
        """Forget them."""
        self.calls.clear()

    async def close(self) -> None:
        """Forget them, and take no more."""
        self.calls.clear()
        self.closed = True


class Joining(MemoryBackend):
    """A store with one user, whose transaction is a list of calls. It notifies that user's runs alone."""

    def __init__(self) -> None:
        super().__init__(strict=True)
        self.capabilities = self.capabilities._replace(connections=True, notify=True)
        self.connection = UserConnection(self)
        self.tell: Callable[[str | None], None] = lambda run_id: None

    def watch(self, tell: Callable[[str | None], None]) -> None:
        """Tell of users' commits."""
        self.tell = tell

    def told(self, run_id: str) -> None:
        """Tell."""
        self.tell(run_id)

    async def joined(self, connection: Any) -> Joined:
        """Join."""
        if connection is not self.connection or connection.closed:
            raise ConfigurationError("not a connection to this store")
        return Joined(self)


class Joined:
    """The store with the calls of the transaction."""

    def __init__(self, store: Joining) -> None:
        self.store = store
        self.capabilities = store.capabilities
        self.calls = store.connection.calls

    async def seen(self) -> MemoryBackend:
        """A copy of the store, in which the calls were made."""
        seen = MemoryBackend(strict=True)
        for name in ("_runs", "_mail", "_history"):
            setattr(seen, name, copy.deepcopy(getattr(self.store, name)))
        for name, _, *given in self.calls:
            await getattr(seen, name)(*given)
        return seen

    async def create(self, run: RunRecord, audit: AuditEntry | None = None) -> RunRecord:
        """Create at the commit."""
        if (there := await self.load(run.run_id)) is not None:
            return there
        self.calls.append(("create", run.run_id, run, audit))
        return run

    async def load(self, run_id: str) -> RunRecord | None:
        """A run of the copy."""
        return await (await self.seen()).load(run_id)

    async def history(self, run_id: str) -> Any:
        """Of the copy."""
        return await (await self.seen()).history(run_id)

    async def signals(self, run_id: str) -> Any:
        """Of the copy."""
        return await (await self.seen()).signals(run_id)

    async def put_signal(self, run_id: str, signal: Signal, audit: AuditEntry | None = None) -> None:
        """Send at the commit."""
        self.calls.append(("put_signal", run_id, run_id, signal, audit))

    async def put_signal_within(self, run_id: str, signal: Signal, most: int, audit: AuditEntry | None = None) -> bool:
        """Send at the commit, unless too many wait in the copy."""
        if not await (await self.seen()).put_signal_within(run_id, signal, most):
            return False
        await self.put_signal(run_id, signal, audit)
        return True


class OnJoining(OnStore):
    """The contract on a store that was made for it, with its user's connection."""

    made: Any

    def open_backend(self, url: str) -> Any:
        """The store."""
        self.made = self.make()
        return self.made

    def connect(self, url: str) -> Any:
        """The user's connection."""
        return self.made.connection


def joining(change: Callable[[Any], Any]) -> Methods:
    """A store whose transactions are changed when they are joined."""

    async def joined(store: Any, honest: Callable[..., Any], *about: Any) -> Any:
        made = await honest(*about)
        change(made)
        return made

    return {"joined": joined}


def stores_runs_at_once(joined: Any) -> None:
    """Store a run before the commit."""
    joined.create = joined.store.create


def stores_signals_at_once(joined: Any) -> None:
    """Store a signal before the commit."""
    joined.put_signal = joined.store.put_signal


def audits_at_once(joined: Any) -> None:
    """Add an entry before the commit."""
    honest = joined.create

    async def create(run: RunRecord, audit: AuditEntry | None = None) -> RunRecord:
        if audit is not None:
            await joined.store.add_audit([audit])
        made: RunRecord = await honest(run)
        return made

    joined.create = create


def audits_always(joined: Any) -> None:
    """Add an entry for what has no effect, at the commit."""
    honest = joined.put_signal

    async def put_signal(run_id: str, signal: Signal, audit: AuditEntry | None = None) -> None:
        await honest(run_id, signal)
        if audit is not None:
            joined.calls.append(("add_audit", run_id, [audit]))

    joined.put_signal = put_signal


def forgets_signals(joined: Any) -> None:
    """Store no signals."""

    async def put_signal(*about: Any) -> None:
        pass

    joined.put_signal = put_signal


def reads_what_is_committed(joined: Any) -> None:
    """See nothing of the transaction."""

    async def seen() -> Any:
        return joined.store

    joined.seen = seen


def without_limit(joined: Any) -> None:
    """Take every signal."""

    async def put(run_id: str, signal: Signal, most: int, audit: AuditEntry | None = None) -> bool:
        await joined.put_signal(run_id, signal, audit)
        return True

    joined.put_signal_within = put


async def any_connection(store: Any, honest: Callable[..., Any], connection: Any) -> Any:
    """Join whatever comes."""
    return await honest(store.connection)


async def untold(store: Any, honest: Callable[..., Any], connection: Any) -> Any:
    """Tell nothing."""
    store.told = lambda run_id: None
    return await honest(connection)


async def never_rolled_back(store: Any, honest: Callable[..., Any], connection: Any) -> Any:
    """Commit what is rolled back."""
    if connection is store.connection:
        connection.rollback = connection.commit
    return await honest(connection)


def loses_calls(joined: Any) -> None:
    """Forget what other calls store meanwhile."""
    honest = joined.create

    async def create(run: RunRecord, audit: AuditEntry | None = None) -> RunRecord:
        before = list(joined.calls)
        await asyncio.sleep(0)  # lets others begin
        joined.calls[:] = before
        made: RunRecord = await honest(run, audit)
        return made

    joined.create = create


def forgets_fields(joined: Any) -> None:
    """Store a run without its wait, lane and attributes."""
    honest = joined.create

    async def create(run: RunRecord, audit: AuditEntry | None = None) -> RunRecord:
        made: RunRecord = await honest(run._replace(wait=None, lane=None, attributes={}), audit)
        return made

    joined.create = create


MUTANTS: dict[str, tuple[Methods, str]] = {
    "stores runs at once": (
        joining(stores_runs_at_once),
        "what_a_user_commits_is_there what_a_user_rolls_back_never_was",
    ),
    "stores signals at once": (joining(stores_signals_at_once), "what_a_user_commits_is_there"),
    "audits at once": (joining(audits_at_once), "what_a_user_commits_is_there what_a_user_rolls_back_never_was"),
    "audits what has no effect": (joining(audits_always), "a_transaction_sees_what_it_stores"),
    "forgets fields of runs": (joining(forgets_fields), "a_run_of_a_transaction_is_whole"),
    "forgets what is stored at the same time": (joining(loses_calls), "calls_on_a_connection_at_the_same_time"),
    "forgets signals": (joining(forgets_signals), "what_a_user_commits_is_there a_users_commit_is_told"),
    "sees only what is committed": (
        joining(reads_what_is_committed),
        "a_transaction_sees_what_it_stores",
    ),
    "has no limit": (joining(without_limit), "the_limit_of_signals_holds_in_transactions"),
    "joins any connection": ({"joined": any_connection}, "other_connections_are_refused"),
    "tells nothing": ({"joined": untold}, "a_users_commit_is_told"),
    "commits what is rolled back": ({"joined": never_rolled_back}, "what_a_user_rolls_back_never_was"),
}
PAIRS = [(name, f"test_{clause}") for name, (_, clauses) in MUTANTS.items() for clause in clauses.split()]


@pytest.mark.parametrize("clause", CLAUSES)
def test_an_honest_store_keeps_every_clause(clause: str, tmp_path: Path) -> None:
    """The store that the broken ones are made of keeps the clause."""
    getattr(OnJoining(Joining), clause)(tmp_path)


@pytest.mark.parametrize(("mutant", "clause"), PAIRS)
def test_a_broken_store_fails_its_clause(mutant: str, clause: str, tmp_path: Path) -> None:
    """A store that breaks one clause fails the test of that clause."""
    contract = OnJoining(broken(Joining, **MUTANTS[mutant][0]))
    contract.patience = 1.0
    with pytest.raises((AssertionError, CanoError)) as failed:
        getattr(contract, clause)(tmp_path)
    assert str(failed.value)


def test_every_clause_has_a_store_that_fails_it() -> None:
    """No clause is in the contract that nothing is known to fail."""
    assert sorted({clause for _, clause in PAIRS}) == CLAUSES


def test_a_store_that_joins_transactions_must_have_a_connection(tmp_path: Path) -> None:
    """The contract names the method that the store's author has to write."""
    with pytest.raises(NotImplementedError, match=r"OnStore must connect: def connect\(self, url\)"):
        OnStore(Joining).test_a_users_commit_is_told(tmp_path)
