"""The contract of stores with transactions: each of its clauses fails on a store that breaks it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from cano import CanoError, Commit, ConflictError, Signal, StoreError
from cano.testing.contract_transactions import TransactionClauses
from cano_memory import MemoryBackend

from tests.kernel.testing.test_contract import Methods, OnStore, broken

CLAUSES = sorted(name for name in dir(TransactionClauses) if name.startswith("test_"))


class Transacting(MemoryBackend):
    """A store whose transactions take turns, and keep signals until they are committed."""

    def __init__(self) -> None:
        super().__init__(strict=True)
        self.capabilities = self.capabilities._replace(transactions=True)
        self.turn = asyncio.Lock()

    async def begin(self, run_id: str, token: int, seq: int, timeout: float) -> Opened:
        """Begin one."""
        await self.turn.acquire()
        run = await self.load(run_id)
        if run is None or (run.token, run.seq) != (token, seq):
            self.turn.release()
            raise ConflictError("stale")
        return Opened(self, timeout)


class Opened:
    """A transaction."""

    connection = None

    def __init__(self, store: Transacting, timeout: float) -> None:
        self.store = store
        self.signals: list[tuple[str, Signal]] = []
        self.is_open = True
        self.timer = asyncio.get_running_loop().call_later(timeout, self.end)

    async def execute(
        self, statement: str, parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[tuple[Any, ...]]:
        """Nothing."""
        return []

    async def put_signal(self, run_id: str, signal: Signal) -> None:
        """Keep it."""
        self.signals.append((run_id, signal))

    async def commit(self, commit: Commit) -> None:
        """Apply all."""
        if not self.is_open:
            raise StoreError("over")
        try:
            await self.store.commit(commit)
            for each in self.signals:
                await self.store.put_signal(*each)
        finally:
            self.end()

    async def rollback(self) -> None:
        """End it."""
        self.end()

    def end(self) -> None:
        """Let others begin."""
        if self.is_open:
            self.is_open = False
            self.timer.cancel()
            self.store.turn.release()


def opening(change: Callable[[Any], None]) -> Methods:
    """A store whose transactions are changed when they are open."""

    async def begin(store: Any, honest: Callable[..., Any], *about: Any) -> Any:
        opened = await honest(*about)
        change(opened)
        return opened

    return {"begin": begin}


def signals_at_once(opened: Any) -> None:
    """Store signals before the commit."""
    opened.put_signal = opened.store.put_signal


def never_over(opened: Any) -> None:
    """Commit even if it has ended."""
    opened.commit = opened.store.commit


def without_signals(opened: Any) -> None:
    """Forget signals."""

    async def nothing(*about: Any) -> None:
        pass

    opened.put_signal = nothing


def without_timeout(opened: Any) -> None:
    """Never end a transaction that takes long, but let others begin."""
    opened.timer.cancel()
    if opened.store.turn.locked():
        asyncio.get_running_loop().call_later(0.1, opened.store.turn.release)
        opened.end = lambda: None


async def of_any_holder(
    store: Any, honest: Callable[..., Any], run_id: str, token: int, seq: int, timeout: float
) -> Any:
    """Begin for every holder."""
    run = await store.load(run_id)
    return await honest(run_id, token if run is None else run.token, seq if run is None else run.seq, timeout)


async def not_undone(store: Any, honest: Callable[..., Any], *about: Any) -> Any:
    """Store the signals of a refused commit."""
    opened = await honest(*about)
    commit = opened.commit

    async def all_the_same(given: Commit) -> None:
        try:
            await commit(given)
        except ConflictError:
            for each in opened.signals:
                await store.put_signal(*each)
            raise

    opened.commit = all_the_same
    return opened


async def left_open(store: Any, honest: Callable[..., Any], *about: Any) -> Any:
    """Leave the transaction of a cancelled caller open, and refuse commits meanwhile."""
    try:
        return await honest(*about)
    except asyncio.CancelledError:
        store._runs.clear()
        raise


MUTANTS: dict[str, tuple[Methods, str]] = {
    "stores signals at once": (
        opening(signals_at_once),
        "a_transaction_commits_a_step a_rolled_back_transaction_leaves_nothing",
    ),
    "forgets signals": (opening(without_signals), "a_transaction_commits_a_step"),
    "is never over": (opening(never_over), "a_rolled_back_transaction_leaves_nothing"),
    "asks for no token": (
        {"begin": of_any_holder},
        "a_stale_holder_gets_no_transaction transactions_of_one_run_take_turns",
    ),
    "keeps signals of refused commits": ({"begin": not_undone}, "a_stale_commit_undoes_its_transaction"),
    "has no timeout": (opening(without_timeout), "a_transaction_that_takes_too_long"),
    "leaves transactions open": ({"begin": left_open}, "a_cancelled_begin_leaves_no_transaction"),
}
PAIRS = [(name, f"test_{clause}") for name, (_, clauses) in MUTANTS.items() for clause in clauses.split()]


@pytest.mark.parametrize("clause", CLAUSES)
def test_an_honest_store_keeps_every_clause(clause: str, tmp_path: Path) -> None:
    """The store that the broken ones are made of keeps the clause."""
    getattr(OnStore(Transacting), clause)(tmp_path)


@pytest.mark.parametrize(("mutant", "clause"), PAIRS)
def test_a_broken_store_fails_its_clause(mutant: str, clause: str, tmp_path: Path) -> None:
    """A store that breaks one clause fails the test of that clause."""
    with pytest.raises((AssertionError, CanoError)) as failed:
        getattr(OnStore(broken(Transacting, **MUTANTS[mutant][0])), clause)(tmp_path)
    assert str(failed.value)


def test_every_clause_has_a_store_that_fails_it() -> None:
    """No clause is in the contract that nothing is known to fail."""
    assert sorted({clause for _, clause in PAIRS}) == CLAUSES
