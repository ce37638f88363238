"""`PostgresBackend`: runs in a PostgreSQL database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from cano import (
    AuditEntry,
    ClaimedRun,
    Commit,
    LazyBackend,
    Retention,
    RunFilter,
    RunRecord,
    Signal,
    StoreTransaction,
    StreamChunk,
    Transition,
)
from cano.options import Seconds, place_name

from cano_postgres.settings import LONGEST_NAME, Settings
from cano_postgres.url import CAPABILITIES, label, parameters_from_url

if TYPE_CHECKING:
    from cano_postgres.engine import Engine


class PostgresBackend(LazyBackend["Engine"]):
    """A store that keeps runs in a PostgreSQL database. Processes on any number of machines can share it.

    When `commit` returns, the commit is on the server's disk. Commits that arrive while the server is busy share one
    transaction. If the server restarts or cannot be reached, calls wait for it, and each is done exactly once. A
    cancelled write is either withdrawn or completed before the cancellation is raised; `load` shows which.

    A backend belongs to the event loop that opened it.

    Args:
        url: `postgresql://user:password@host:port/database?...`, with libpq's options; `postgresql:///database?host=/dir`
            for a Unix socket.
        schema: the schema of the tables. `open` creates it if it is missing. Several stores can share a database.
        pool_size: the most connections that read. One more connection writes, and one listens.
        retry_for: seconds, or a timedelta, that a call waits for a server that cannot be reached before it fails.
        synchronous_commit: the server setting of this name. By default the server's value, or "on" if that is "off".
            With "off", a crash of the server may undo the last commits, never half of one.
        snapshot_every: number of commits of a run after which its journal is compacted into its snapshot.
        strict: whether the codec checks values when a task puts or gets them, not only when a step commits.

    Raises:
        ConfigurationError: an argument is wrong.
    """

    def __init__(
        self,
        url: str,
        *,
        schema: str = "cano",
        pool_size: int = 4,
        retry_for: Seconds = 30.0,
        synchronous_commit: str | None = None,
        snapshot_every: int = 100,
        strict: bool = False,
    ) -> None:
        parameters = parameters_from_url(url)
        self._use(
            Settings(
                parameters=parameters,
                label=label(parameters),
                schema=schema,
                pool_size=pool_size,
                retry_for=retry_for,  # type: ignore[arg-type]  # its check returns seconds
                synchronous_commit=synchronous_commit,
                snapshot_every=snapshot_every,
                strict=strict,
            )
        )

    def _use(self, settings: Settings) -> None:
        self._settings = settings
        super().__init__(settings.label, CAPABILITIES._replace(strict=settings.strict))

    def scoped(self, namespace: str) -> PostgresBackend:
        """Return the part of the store with this name: a schema of its own, such as `cano/acme`.

        A name that has more than 40 characters, or others than a-z, 0-9, _ and -, is replaced by its hash. If the
        schema's name were too long, this one's is cut, and the hash is that of both.
        """
        settings, part = self._settings, copy(self)
        schema = f"{settings.schema}/{place_name(namespace)}"
        if len(schema.encode()) > LONGEST_NAME:
            start = settings.schema.encode()[: LONGEST_NAME - 43].decode(errors="ignore")
            schema = f"{start}/~{place_name(namespace, settings.schema)}"
        part._use(replace(settings, schema=schema, label=f"{settings.label} (namespace {namespace!r})"))
        return part

    def _load(self) -> Callable[[], Engine]:
        """Import psycopg, which only an open store needs."""
        from cano_postgres.engine import Engine

        return partial(Engine, self._settings, partial(self._unavailable, "was closed"))

    async def claim_ready(
        self,
        definitions: Sequence[tuple[str, str, str]],
        limit: int,
        holder: str,
        now: float,
        expires: float,
        skip: Sequence[str] = (),
    ) -> Sequence[ClaimedRun]:
        """See `ClaimingStore.claim_ready`."""
        return await self._opened().claim_ready(definitions, limit, holder, now, expires, skip)

    async def put_signal_within(self, run_id: str, signal: Signal, most: int, audit: AuditEntry | None = None) -> bool:
        """See `LimitingStore.put_signal_within`."""
        return await self._opened().put_signal_within(run_id, signal, most, audit)

    async def history_page(self, run_id: str, after: int | None, limit: int | None) -> Sequence[Transition]:
        """See `HistoryPagingStore.history_page`."""
        return await self._opened().history_page(run_id, after, limit)

    async def discard_history(self, run_id: str, before: int) -> None:
        """See `HistoryPagingStore`."""
        await self._opened().discard_history(run_id, before)

    async def rewrite(self, commit: Commit, entries: Sequence[Transition]) -> None:
        """See `RewritingStore.rewrite`."""
        await self._opened().rewrite(commit, entries)

    async def rewrite_signals(self, run_id: str, signals: Sequence[Signal]) -> None:
        """See `RewritingStore.rewrite_signals`."""
        await self._opened().rewrite_signals(run_id, signals)

    async def count(self, filter: RunFilter) -> int:
        """See `AttributeStore.count`."""
        return await self._opened().count(filter)

    async def attribute_names(self) -> Sequence[tuple[str, bytes]]:
        """See `AttributeStore.attribute_names`."""
        return await self._opened().attribute_names()

    async def expired(
        self, retention: Retention, now: float, limit: int, after: tuple[float, str] | None = None
    ) -> Sequence[RunRecord]:
        """See `PruningStore.expired`."""
        return await self._opened().expired(retention, now, limit, after)

    async def delete_finished(
        self, run_ids: Sequence[str], now: float, audit: AuditEntry | None = None
    ) -> Sequence[str]:
        """See `PruningStore.delete_finished`."""
        return await self._opened().delete_finished(run_ids, now, audit)

    async def exists(self) -> bool:
        """Return whether the tables exist. Create nothing.

        Raises:
            ConfigurationError: the URL has an unknown option.
            StoreUnavailableError: the server cannot be reached, or refuses the connection.
        """
        return await (await self._make()).exists()

    async def begin(self, run_id: str, token: int, seq: int, timeout: float) -> StoreTransaction:
        """See `TransactionalStore.begin`. It has a connection of its own, and locks the run's row."""
        return await self._opened().begin(run_id, token, seq, timeout)

    async def write_stream(self, run_id: str, token: int, chunks: Sequence[StreamChunk]) -> None:
        """See `StreamingStore.write_stream`."""
        await self._opened().write_stream(run_id, token, chunks)

    async def rewrite_stream(self, run_id: str, chunks: Sequence[StreamChunk]) -> None:
        """See `RewritingStore`."""
        await self._opened().rewrite_stream(run_id, chunks)

    async def read_stream(self, run_id: str, channel: str, after: int, limit: int) -> Sequence[StreamChunk]:
        """See `StreamingStore.read_stream`."""
        return await self._opened().read_stream(run_id, channel, after, limit)

    async def channels(self, run_id: str) -> Sequence[str]:
        """See `StreamingStore.channels`."""
        return await self._opened().channels(run_id)

    def watch_streams(self, tell: Callable[[str | None], None]) -> None:
        """See `StreamingStore`."""
        self._opened().watch_streams(tell)

    def watch(self, tell: Callable[[str | None], None]) -> None:
        """See `NotifyingStore.watch`."""
        self._opened().watch(tell)
