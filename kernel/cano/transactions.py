"""Transactions on the database of the store: those of steps, and those of users' own connections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from cano.protocols import Capabilities, StoreBackend
from cano.records import AuditEntry, Commit, RunRecord, Transition
from cano.signals import Signal, Signals


class Transaction(Protocol):
    """A transaction on the store's database: `async with current_step().transaction() as tx:`.

    When the task returns, one commit stores all that was executed in `tx`, the step's changes and its transition. If
    the attempt fails, all of it is rolled back; if an exception leaves the block, what was done in the block. Items and
    progress are stored with the step or after it, even with `flush`.

    It may take half of what is left of the run's lease; then it is rolled back. Branches, other phases of nodes than
    `post`, and tasks that executors execute have none.
    """

    @property
    def connection(self) -> Any:
        """The driver's connection, for what `execute` does not do. It must not end the transaction.

        It is an `sqlite3.Connection`, whose calls block the event loop, or a `psycopg.AsyncConnection`.
        """
        ...

    async def execute(
        self, statement: str, parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> Sequence[tuple[Any, ...]]:
        """Execute a statement of SQL, and return the rows of its result. An error is the driver's own.

        Raises:
            ConfigurationError: the block of `async with` has ended.
            StoreError: the transaction was rolled back, since it took too long.
        """
        ...


class StoreTransaction(Transaction, Protocol):
    """A transaction of a `TransactionalStore`. `commit` and `rollback` end it."""

    async def put_signal(self, run_id: str, signal: Signal) -> None:
        """See `StoreBackend.put_signal`. The signal is there if the transaction is committed."""
        ...

    async def commit(self, commit: Commit) -> None:
        """Apply `commit` to the run, and commit the transaction. If that fails, the transaction is rolled back.

        Crash, cancellation or lost connection: it may have been committed; the next `load` shows whether it was.

        Raises:
            ConflictError: the stored `seq` or token differs, or the run does not exist.
            StoreError: the transaction has ended, for example because it took too long, or one of its statements failed
                so that the database refuses to commit it.
        """
        ...

    async def rollback(self) -> None:
        """Undo all that was done in the transaction. Does nothing if it has ended.

        Cancellation: it is rolled back all the same.
        """
        ...


@runtime_checkable
class TransactionalStore(StoreBackend, Protocol):
    """A store that commits a step together with what its task has done in the same database."""

    async def begin(self, run_id: str, token: int, seq: int, timeout: float) -> StoreTransaction:
        """Begin a transaction in which one commit to a run is made. No other process can claim the run meanwhile.

        Cancellation: no transaction is left open.

        Args:
            run_id: the run.
            token, seq: the fencing token and the number that the run must have.
            timeout: seconds after which the store rolls the transaction back if it is still open, and nothing is being
                executed in it.

        Raises:
            ConflictError: the stored `seq` or token differs, or the run does not exist. No transaction is open then.
        """
        ...


class JoinedStore(Protocol):
    """A store as it is in the open transaction of a user's connection. No call begins or ends that transaction.

    What is read includes what the transaction has stored. A call that raises leaves nothing behind: the transaction is
    as before, or its database lets it only be rolled back. Calls may be made at the same time, also of several such
    stores on one connection. Cancellation: the call may have stored what it was to store, in the transaction.

    With `capabilities.signal_limit` it has `put_signal_within`, too, and with `history_pages` `history_page`. An entry
    for the audit is given only with `capabilities.audit`; it is added in the same transaction.
    """

    capabilities: Capabilities

    async def create(self, run: RunRecord, audit: AuditEntry | None = None) -> RunRecord:
        """Store a run without a holder, as `StoreBackend.create` does. It is there if the user commits.

        If another transaction has stored a run with this id by then, the user's commit may fail, with no effect.
        """
        ...

    async def load(self, run_id: str) -> RunRecord | None:
        """See `StoreBackend.load`."""
        ...

    async def history(self, run_id: str) -> Sequence[Transition]:
        """See `StoreBackend.history`."""
        ...

    async def put_signal(self, run_id: str, signal: Signal, audit: AuditEntry | None = None) -> None:
        """Store a signal, as `StoreBackend.put_signal` does. It is there, and wakes the run, if the user commits."""
        ...

    async def signals(self, run_id: str) -> Signals:
        """See `StoreBackend.signals`."""
        ...


@runtime_checkable
class JoiningStore(StoreBackend, Protocol):
    """A store that stores runs and signals in the transactions of users, on connections of their own.

    A `NotifyingStore` notifies all kernels of them soon after the user's commit, also that of this object.
    """

    async def joined(self, connection: Any) -> JoinedStore:
        """Return the store as it is in the open transaction of a user's connection. Begin one if the driver does so.

        Args:
            connection: a connection of the database's driver; other libraries' connections are unwrapped by the kernel.

        Raises:
            ConfigurationError: it is not a connection that the store knows, or is to another database, or is closed; or
                no transaction is open, so that each statement would be committed by itself; or that one has failed.
            StoreError: the database is locked.
        """
        ...
