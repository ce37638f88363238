"""`PostgresBackend`: runs in a PostgreSQL database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from cano import (
    Capabilities,
    Commit,
    RunFilter,
    RunRecord,
    Signal,
    Signals,
    StoreUnavailableError,
    Transition,
)

from cano_postgres.settings import Settings
from cano_postgres.url import label, parameters_from_url

if TYPE_CHECKING:
    from cano_postgres.engine import Engine


class PostgresBackend:
    """Keeps runs in a PostgreSQL database, which any number of processes on any number of machines may share.

    When `commit` returns, the commit is on the server's disk. All that concurrent runs commit while the server is busy
    goes into its next transaction together. A server that is restarted, or cannot be reached for a while, is waited
    for: whatever was under way is then done exactly once. A write whose caller is cancelled is taken back, or, where
    it is on its way, is done before the cancellation goes on: `load` tells.

    It belongs to the event loop in which it was opened.

    Args:
        url: `postgresql://user:password@host:port/database?...`, with libpq's options; `postgresql:///database?host=/dir`
            for a Unix socket.
        schema: the schema for the tables; it is made where it is missing. Several stores may share a database.
        pool_size: how many connections may read at once. There is one more that writes, and one that listens.
        retry_for: seconds for which calls wait for a server that cannot be reached, before they fail.
        synchronous_commit: the server's setting of this name. By default it is what the server says, and "on" where
            that says "off": then a power failure of the server may undo the last commits.
        snapshot_every: after how many commits of a run its journal is folded into its snapshot.
        strict: whether values are checked already when a task puts or gets them, not only when they are committed.

    Raises:
        ConfigurationError: an argument is wrong.
    """

    def __init__(
        self,
        url: str,
        *,
        schema: str = "cano",
        pool_size: int = 4,
        retry_for: float = 30.0,
        synchronous_commit: str | None = None,
        snapshot_every: int = 100,
        strict: bool = False,
    ) -> None:
        parameters = parameters_from_url(url)
        self._settings = Settings(
            parameters=parameters,
            label=label(parameters),
            schema=schema,
            pool_size=pool_size,
            retry_for=retry_for,
            synchronous_commit=synchronous_commit,
            snapshot_every=snapshot_every,
            strict=strict,
        )
        self.capabilities = Capabilities(durable=True, encoded=True, strict=strict, notify=True)
        self._engine: Engine | None = None
        self._closed = False
        self._turn = asyncio.Lock()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "not open" if self._engine is None else "open"
        return f"<PostgresBackend {self._settings.label}, {state}>"

    async def exists(self) -> bool:
        """Whether its tables are there; `open` would make them. Nothing is made.

        Raises:
            ConfigurationError: the URL has an option that nobody knows.
            StoreUnavailableError: that cannot be told, since the server cannot be reached or lets nobody in.
        """
        return await (await self._new_engine()).exists()

    async def open(self) -> None:
        """Connect, making the schema and its tables where they are missing.

        Raises:
            ConfigurationError: the URL has an option that nobody knows.
            StoreUnavailableError: the server cannot be reached or lets nobody in, is read-only, or its tables are
                those of a newer version; or the backend was closed.
        """
        async with self._turn:
            if self._closed:
                raise self._unavailable("was closed; make a new backend")
            if self._engine is None:
                engine = await self._new_engine()
                await engine.open()
                self._engine = engine

    async def close(self) -> None:
        """Finish all that was asked for, and disconnect. Calls after it raise StoreUnavailableError."""
        self._closed = True
        async with self._turn:
            engine, self._engine = self._engine, None
            if engine is not None:
                await engine.close()

    # runs

    async def create(self, run: RunRecord) -> RunRecord:
        """Store a new run, or return the one that has this id already.

        Raises:
            SerializationError: it has something that cannot be stored.
        """
        return await self._open_engine().create(run)

    async def load(self, run_id: str) -> RunRecord | None:
        """The run with all its data, or None.

        Raises:
            SerializationError: what is stored of it is damaged.
        """
        return await self._open_engine().load(run_id)

    async def commit(self, commit: Commit) -> None:
        """Apply `commit`: all of it or nothing.

        Raises:
            ConflictError: the run's `seq` or `token` is another, or the run is gone.
            SerializationError: it has something that cannot be stored.
        """
        await self._open_engine().commit(commit)

    async def runs(self, filter: RunFilter) -> Sequence[RunRecord]:
        """The runs that match, newest first, without their data. A damaged one shows what is wrong as its error."""
        return await self._open_engine().runs(filter)

    async def history(self, run_id: str) -> Sequence[Transition]:
        """Every commit of the run that made a transition, oldest first, its creation included.

        Raises:
            SerializationError: what is stored of it is damaged.
        """
        return await self._open_engine().history(run_id)

    async def delete(self, run_id: str) -> bool:
        """Forget a run with its data, history and signals; whether there was one."""
        return await self._open_engine().delete(run_id)

    # leases

    async def claim(self, run_id: str, holder: str, now: float, expires: float) -> int | None:
        """Take the lease of a run that nobody holds: its new token, or None."""
        return await self._open_engine().claim(run_id, holder, now, expires)

    async def renew(self, holder: str, tokens: Mapping[str, int], expires: float) -> Sequence[str]:
        """Extend the leases of many runs; the ids of those that are lost."""
        return await self._open_engine().renew(holder, tokens, expires)

    async def release(self, run_id: str, token: int) -> None:
        """Free the lease, if it is still that of `token`."""
        await self._open_engine().release(run_id, token)

    # signals

    async def put_signal(self, run_id: str, signal: Signal) -> None:
        """Keep a signal until a commit consumes it, unless one of its id was sent to the run before."""
        await self._open_engine().put_signal(run_id, signal)

    async def next_signal(self, run_id: str, name: str) -> Signal | None:
        """The oldest signal of that name that no commit has consumed. It stays."""
        return await self._open_engine().next_signal(run_id, name)

    async def signals(self, run_id: str) -> Signals:
        """Every signal that was ever put for the run, consumed or not."""
        return await self._open_engine().signals(run_id)

    async def missing_recipients(self) -> Sequence[str]:
        """The ids that signals were put for and that no run has."""
        return await self._open_engine().missing_recipients()

    async def ready(self, now: float) -> Sequence[RunRecord]:
        """The runs that could go on, and that nobody holds, without their data."""
        return await self._open_engine().ready(now)

    def watch(self, tell: Callable[[str | None], None]) -> None:
        """Call `tell` with the id of a run whenever another backend did something by which it may go on.

        Args:
            tell: called in the event loop; with None where news may have been lost.
        """
        self._open_engine().watch(tell)

    async def _new_engine(self) -> Engine:
        kind = await asyncio.to_thread(_import_engine)
        return kind(self._settings, lambda: self._unavailable("was closed"))

    def _open_engine(self) -> Engine:
        if self._engine is None or self._closed:
            raise self._unavailable("was closed" if self._closed else "is not open; await its open() first")
        return self._engine

    def _unavailable(self, why: str) -> StoreUnavailableError:
        return StoreUnavailableError(f"the store {self._settings.label} {why}")


def _import_engine() -> type[Engine]:
    """Import psycopg, which only an open store needs. That takes a while."""
    from cano_postgres.engine import Engine

    return Engine
