"""The store contract: transactions, in which a step is committed with what its task does in the same database."""

from __future__ import annotations

import asyncio

from cano.errors import ConflictError, StoreError
from cano.protocols import StoreBackend
from cano.signals import Signal
from cano.testing.contract_base import Contract, clause, new_run, raised, step, value
from cano.transactions import TransactionalStore

LONG = 60.0
"""Seconds that no transaction of these clauses takes."""


class TransactionClauses(Contract):
    """A store with `capabilities.transactions` is a `TransactionalStore`; others have no `begin`.

    The contract does not know the language of the store's database, so these clauses execute no statements.
    """

    @clause
    async def test_a_transaction_commits_a_step(self, store: StoreBackend) -> None:
        """Its commit is applied completely, with its signals; and it is over then."""
        assert isinstance(store, TransactionalStore) == store.capabilities.transactions, (
            "transactions and begin go together"
        )
        if not isinstance(store, TransactionalStore):
            return
        await store.create(new_run())
        opened = await store.begin("run", 1, 0, LONG)
        await opened.put_signal("another", Signal("a", "go", value(store, 1)))
        assert not (await store.signals("another")).waiting, "a signal shows before the commit"
        await opened.commit(step(1, changed={"n": value(store, 5)}))
        record = await store.load("run")
        assert record is not None
        assert (record.seq, dict(record.data)) == (1, {"n": value(store, 5)})
        assert [each.id for each in (await store.signals("another")).waiting] == ["a"]
        await raised(StoreError, opened.commit(step(2)))
        await opened.rollback()
        await store.commit(step(2))

    @clause
    async def test_a_rolled_back_transaction_leaves_nothing(self, store: StoreBackend) -> None:
        """Neither its signals nor a later commit in it have an effect, and others are not kept waiting."""
        if not isinstance(store, TransactionalStore):
            return
        await store.create(new_run())
        opened = await store.begin("run", 1, 0, LONG)
        await opened.put_signal("another", Signal("a", "go", value(store, 1)))
        await opened.rollback()
        await opened.rollback()
        assert not (await store.signals("another")).waiting
        await raised(StoreError, opened.commit(step(1)))
        await store.commit(step(1))
        assert [entry.seq for entry in await store.history("run")] in ([0, 1], [])

    @clause
    async def test_a_stale_holder_gets_no_transaction(self, store: StoreBackend) -> None:
        """A transaction begins only with the token and the number that the run has; a refused one is not open."""
        if not isinstance(store, TransactionalStore):
            return
        await store.create(new_run())
        for run_id, token, seq in (("run", 2, 0), ("run", 1, 1), ("absent", 1, 0)):
            await raised(ConflictError, store.begin(run_id, token, seq, LONG))
        await store.commit(step(1))

    @clause
    async def test_a_stale_commit_undoes_its_transaction(self, store: StoreBackend) -> None:
        """If the commit does not fit the run, nothing of the transaction stays."""
        if not isinstance(store, TransactionalStore):
            return
        await store.create(new_run())
        opened = await store.begin("run", 1, 0, LONG)
        await opened.put_signal("another", Signal("a", "go", value(store, 1)))
        await raised(ConflictError, opened.commit(step(7)))
        assert not (await store.signals("another")).waiting
        await store.commit(step(1))

    @clause
    async def test_transactions_of_one_run_take_turns(self, store: StoreBackend) -> None:
        """A second one for the same step waits for the first, and is then refused."""
        if not isinstance(store, TransactionalStore):
            return
        await store.create(new_run())
        opened = await store.begin("run", 1, 0, LONG)
        second = asyncio.ensure_future(store.begin("run", 1, 0, LONG))
        await opened.commit(step(1))
        await raised(ConflictError, second)
        again = await store.begin("run", 1, 1, LONG)
        await again.commit(step(2))

    @clause
    async def test_a_transaction_that_takes_too_long(self, store: StoreBackend) -> None:
        """The store rolls it back, so that others can continue, and refuses its commit."""
        if not isinstance(store, TransactionalStore):
            return
        await store.create(new_run())
        opened = await store.begin("run", 1, 0, 0.05)
        second = await store.begin("run", 1, 0, LONG)  # waits for the first one's end
        await raised(StoreError, opened.commit(step(1)))
        await second.commit(step(1))

    @clause
    async def test_a_cancelled_begin_leaves_no_transaction(self, store: StoreBackend) -> None:
        """Whenever the caller is cancelled, others are not kept waiting."""
        if not isinstance(store, TransactionalStore):
            return
        await store.create(new_run())
        opened = await store.begin("run", 1, 0, LONG)
        waiting = asyncio.ensure_future(store.begin("run", 1, 0, LONG))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting}, timeout=0)
        await opened.rollback()
        await asyncio.wait({waiting})
        await store.commit(step(1))
