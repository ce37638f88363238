"""`LazyBackend`: a base class for stores that import their driver and connect only when they are opened."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from inspect import signature
from typing import Any, Generic, TypeVar, cast

from cano.errors import ConfigurationError, StoreUnavailableError
from cano.optional_stores import AuditingStore
from cano.protocols import Capabilities, StoreBackend
from cano.records import AuditEntry, Commit, RunRecord, Transition
from cano.run_filter import RunFilter
from cano.signals import Signal, Signals

BackendT = TypeVar("BackendT", bound=StoreBackend)


def check_contract(backend: StoreBackend, name: str) -> None:
    """Raise ConfigurationError if a store does not keep the engine's own values and signals, as an earlier one."""
    try:
        signature(backend.next_signal).bind("run", "name", True)
    except TypeError:
        raise ConfigurationError(
            f"the store {name} cannot be used: its {type(backend).__name__} was written for an earlier contract, in "
            "which the engine's own values lay among the data; install a newer version of its plugin. If it is yours, "
            "keep what is `own` in records, commits and signals, and take next_signal(run_id, name, own); "
            "cano.testing.StoreBackendContract tests it"
        ) from None


class LazyBackend(ABC, Generic[BackendT]):
    """A `StoreBackend` that makes another backend when it is opened, and delegates all calls to it.

    Therefore a program that only names a store does not import the store's driver. A subclass implements `_load`, and
    adds the optional methods of its store: `exists`, `watch`.

    Args:
        name: the store's name in messages. It must not contain a password.
        capabilities: the store's promises.
    """

    def __init__(self, name: str, capabilities: Capabilities) -> None:
        import asyncio  # late: to name a store needs no asyncio

        self.capabilities = capabilities
        self._name = name
        self._backend: BackendT | None = None
        self._closed = False
        self._turn = asyncio.Lock()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "not open" if self._backend is None else "open"
        return f"<{type(self).__name__} {self._name}, {state}>"

    @abstractmethod
    def _load(self) -> Callable[[], BackendT]:
        """Import the driver, and return a function that makes a backend. Called in a worker thread.

        That function is called in the event loop. If the `open` of its backend raises, it must release all resources.
        """

    async def _make(self) -> BackendT:
        """Return a new backend, not yet opened."""
        import asyncio

        return (await asyncio.to_thread(self._load))()

    def _opened(self) -> BackendT:
        """Return the backend to delegate to. Raises StoreUnavailableError unless the store is open."""
        if self._backend is None or self._closed:
            raise self._unavailable("was closed" if self._closed else "is not open; await its open() first")
        return self._backend

    def _unavailable(self, problem: str) -> StoreUnavailableError:
        return StoreUnavailableError(f"the store {self._name} {problem}")

    async def open(self) -> None:
        """See `StoreBackend.open`. Does nothing if the store is open.

        Raises:
            ConfigurationError: the store was written for an earlier contract.
            StoreUnavailableError: the store cannot be reached, or was closed.
        """
        async with self._turn:
            if self._closed:
                raise self._unavailable("was closed; make a new backend")
            if self._backend is None:
                backend = await self._make()
                check_contract(backend, self._name)
                await backend.open()
                self._backend = backend

    async def close(self) -> None:
        """See `StoreBackend.close`."""
        self._closed = True
        async with self._turn:
            if self._backend is not None:
                await self._backend.close()

    async def create(self, run: RunRecord, audit: AuditEntry | None = None) -> RunRecord:
        """See `AuditingStore.create`."""
        return await self._opened().create(run, *given(audit))

    async def load(self, run_id: str) -> RunRecord | None:
        """See `StoreBackend.load`."""
        return await self._opened().load(run_id)

    async def commit(self, commit: Commit, audit: AuditEntry | None = None) -> None:
        """See `AuditingStore.commit`."""
        await self._opened().commit(commit, *given(audit))

    async def claim(self, run_id: str, holder: str, now: float, expires: float) -> int | None:
        """See `StoreBackend.claim`."""
        return await self._opened().claim(run_id, holder, now, expires)

    async def renew(self, holder: str, tokens: Mapping[str, int], expires: float) -> Sequence[str]:
        """See `StoreBackend.renew`."""
        return await self._opened().renew(holder, tokens, expires)

    async def release(self, run_id: str, token: int) -> None:
        """See `StoreBackend.release`."""
        await self._opened().release(run_id, token)

    async def runs(self, filter: RunFilter) -> Sequence[RunRecord]:
        """See `StoreBackend.runs`."""
        return await self._opened().runs(filter)

    async def history(self, run_id: str) -> Sequence[Transition]:
        """See `StoreBackend.history`."""
        return await self._opened().history(run_id)

    async def put_signal(self, run_id: str, signal: Signal, audit: AuditEntry | None = None) -> None:
        """See `AuditingStore.put_signal`."""
        await self._opened().put_signal(run_id, signal, *given(audit))

    async def next_signal(self, run_id: str, name: str, own: bool = False) -> Signal | None:
        """See `StoreBackend.next_signal`."""
        return await self._opened().next_signal(run_id, name, own)

    async def signals(self, run_id: str) -> Signals:
        """See `StoreBackend.signals`."""
        return await self._opened().signals(run_id)

    async def missing_recipients(self) -> Sequence[str]:
        """See `StoreBackend.missing_recipients`."""
        return await self._opened().missing_recipients()

    async def ready(self, now: float, workflows: Collection[str] | None = None) -> Sequence[RunRecord]:
        """See `StoreBackend.ready`, and `Capabilities.ready_filters`."""
        return await self._opened().ready(now, *given(workflows))

    async def delete(self, run_id: str, audit: AuditEntry | None = None) -> bool:
        """See `AuditingStore.delete`."""
        return await self._opened().delete(run_id, *given(audit))

    async def add_audit(self, entries: Sequence[AuditEntry]) -> None:
        """See `AuditingStore.add_audit`."""
        await self._auditing().add_audit(entries)

    async def audit(self, run_id: str | None, limit: int | None) -> Sequence[AuditEntry]:
        """See `AuditingStore.audit`."""
        return await self._auditing().audit(run_id, limit)

    async def prune_audit(self, before: float, audit: AuditEntry) -> int:
        """See `AuditingStore.prune_audit`."""
        return await self._auditing().prune_audit(before, audit)

    def _auditing(self) -> AuditingStore:
        return cast(AuditingStore, self._opened())


def given(argument: Any) -> tuple[Any, ...]:
    """Return an optional argument of a call: none for a store whose call does not take it."""
    return () if argument is None else (argument,)
