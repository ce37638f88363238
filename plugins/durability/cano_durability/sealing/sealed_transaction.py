"""Transactions of sealed stores."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cano import Commit, Signal

if TYPE_CHECKING:
    from cano import StoreTransaction


class SealedTransaction:
    """A `StoreTransaction` whose commit is sealed. What the task does in the database is neither sealed nor encrypted.

    Args:
        inner: the transaction of the store that keeps the runs.
        wrapped: returns a signal to a run as the store keeps it.
        sealed: seals a commit, and writes it by the function that it gets as `write`.
    """

    def __init__(
        self,
        inner: StoreTransaction,
        wrapped: Callable[[str, Signal], Signal],
        sealed: Callable[..., Coroutine[Any, Any, None]],
    ) -> None:
        self._inner = inner
        self._wrapped = wrapped
        self._sealed = sealed

    @property
    def connection(self) -> Any:
        """See `Transaction`."""
        return self._inner.connection

    async def execute(
        self, statement: str, parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> Sequence[tuple[Any, ...]]:
        """See `Transaction.execute`."""
        return await self._inner.execute(statement, parameters)

    async def put_signal(self, run_id: str, signal: Signal) -> None:
        """See `StoreTransaction.put_signal`."""
        await self._inner.put_signal(run_id, self._wrapped(run_id, signal))

    async def commit(self, commit: Commit) -> None:
        """See `StoreTransaction.commit`. The seal is part of the same commit."""
        try:
            await self._sealed(commit, write=self._inner.commit)
        except BaseException:  # it may not have got as far as the transaction
            await self._inner.rollback()
            raise

    async def rollback(self) -> None:
        """See `StoreTransaction.rollback`."""
        await self._inner.rollback()
