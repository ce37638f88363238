"""The transaction of one attempt: what its task does in the store's database is committed with the step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, cast

from cano import (
    AuditEntry,
    Commit,
    ConfigurationError,
    ConflictError,
    RunRecord,
    Signal,
    Step,
    StoreBackend,
    TransientStoreError,
)
from cano.engine.ports import StoreFailed

if TYPE_CHECKING:
    from cano import Changes, StoreTransaction, TransactionalStore


class StepTransaction:
    """The context manager that `Step.transaction` returns, and the transaction that its block gets.

    While it is open, the journal writes nothing beside the step, since that would wait for the transaction: items and
    progress are stored with the step's commit or after it, and the lease is not renewed. The journal ends it: with the
    step's transition, or by a rollback, before it stores anything else of the run.

    Attributes:
        counts: whether the attempt has not failed, so that the run's next transition commits it.
    """

    def __init__(self, backend: StoreBackend, elapsed: Callable[[], float], step: Step) -> None:
        self._backend = backend
        self._elapsed = elapsed
        self._step = step
        self._run = step.run
        self._journal: Any = step.run.journal
        self._open: StoreTransaction | None = None
        self._inside = False
        self._before: Changes | None = None
        self.counts = True

    # for the task

    async def __aenter__(self) -> StepTransaction:
        """Begin it. If the run's lease is lost, the run ends before any statement of the task is executed."""
        self._check()
        journal = self._journal
        self._before = self._run.view.savepoint()
        journal.transaction = self  # nothing else of the run is written from now on
        try:
            await journal.quiet()
            journal.check_lease()
            half = (journal.safe_until - self._elapsed()) / 2
            store = cast("TransactionalStore", self._backend)
            self._open = await store.begin(journal.run_id, journal.token, journal.seq, half)
        except BaseException as error:
            journal.transaction = None
            if isinstance(error, ConflictError | TransientStoreError):
                raise StoreFailed(error) from error  # to make another attempt would not help
            raise
        self._inside = True
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: Any) -> None:
        """Leave the block. The transaction stays open until the task returns, unless an exception leaves the block."""
        self._inside = False
        if error is not None:
            await self.rollback()
            if self._is_present:
                self._run.view.rollback(self._before)

    @property
    def connection(self) -> Any:
        """See `Transaction`."""
        return self._within().connection

    async def execute(
        self, statement: str, parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> Sequence[tuple[Any, ...]]:
        """See `Transaction.execute`."""
        return await self._within().execute(statement, parameters)

    # for the journal

    async def commit(self, commit: Commit, *audit: AuditEntry) -> None:
        """Commit the transaction with the step. A transition has no entries for the audit, so `audit` is empty."""
        opened, self._open = self._open, None
        assert opened is not None
        try:
            self._journal.check_lease()
            await opened.commit(commit)
        except BaseException:
            await opened.rollback()
            raise
        finally:
            self._journal.transaction = None

    async def rollback(self) -> None:
        """Undo what was done in it, unless it has ended."""
        opened, self._open = self._open, None
        try:
            if opened is not None:
                await opened.rollback()
        finally:
            if self._journal.transaction is self:
                self._journal.transaction = None

    async def load(self, run_id: str) -> RunRecord | None:
        """See `StoreBackend.load`."""
        return await self._backend.load(run_id)

    async def put_signal(self, run_id: str, signal: Signal) -> None:
        """Store a signal in the transaction."""
        assert self._open is not None
        await self._open.put_signal(run_id, signal)

    def refuse_notices(self) -> NoReturn:
        """Raise ConfigurationError: the notice of a parked run is a run of its own, which is stored before."""
        problem = "a step with a transaction cannot wait if parked runs are announced; let a step of its own wait"
        self._refuse(problem)

    # checks

    @property
    def _is_present(self) -> bool:
        """Whether its attempt is the present one of the run, and was not abandoned."""
        now = self._run.step
        return self._step.branch is None and (now.seq, now.attempt) == (self._step.seq, self._step.attempt)

    def _check(self) -> None:
        step, run = self._step, self._run
        if step.branch is not None:
            self._refuse(f"branch {step.branch} of a split cannot have one; begin it in the state after the join")
        if step.phase not in (None, "post"):
            self._refuse(f"the {step.phase} phase of a node cannot have one, since others follow; begin it in its post")
        if not self._is_present:
            self._refuse(f"attempt {step.attempt} of the step has ended")
        if run.journal is None:
            self._refuse("no store keeps the run; give it a run_id, and the kernel a store")
        if not self._backend.capabilities.transactions:
            problem = f"the store {self._run.kernel.store_name} has none; use SQLite or PostgreSQL"
            self._refuse(problem)
        if self._journal.transaction is not None:
            self._refuse("the attempt has one already; execute all statements in that")

    def _within(self) -> StoreTransaction:
        if self._open is None or not self._inside:
            self._refuse("its block has ended; execute statements inside it")
        return self._open

    def _refuse(self, problem: str) -> NoReturn:
        step = self._step
        raise ConfigurationError(f"transaction of state {step.state}: {problem}", run_id=step.run_id, state=step.state)
