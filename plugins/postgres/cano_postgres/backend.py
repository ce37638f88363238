"""`PostgresBackend`: runs in a PostgreSQL database."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from cano import JoinedStore, RunRecord, StoreTransaction
from cano.options import Seconds, place_name
from cano_durability.stores.delegating import LazyDurableBackend

from cano_postgres.settings import LONGEST_NAME, Settings
from cano_postgres.url import CAPABILITIES, label, parameters_from_url

if TYPE_CHECKING:
    from cano_postgres.engine import Engine


class PostgresBackend(LazyDurableBackend["Engine"]):
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

    async def exists(self) -> bool:
        """Return whether the tables exist. Create nothing.

        Raises:
            ConfigurationError: the URL has an unknown option.
            StoreUnavailableError: the server cannot be reached, or refuses the connection.
        """
        return await (await self._make()).exists()

    async def queue_sizes(self, definitions: Sequence[tuple[str, str, str]], most: int) -> Mapping[str, int]:
        """See `QueueStore.queue_sizes`."""
        return await self._opened().queue_sizes(definitions, most)

    async def queued_before(self, run: RunRecord, most: int) -> tuple[int, int]:
        """See `QueueStore.queued_before`."""
        return await self._opened().queued_before(run, most)

    async def begin(self, run_id: str, token: int, seq: int, timeout: float) -> StoreTransaction:
        """See `TransactionalStore.begin`. It has a connection of its own, and locks the run's row."""
        return await self._opened().begin(run_id, token, seq, timeout)

    async def joined(self, connection: Any) -> JoinedStore:
        """See `JoiningStore.joined`. What the transaction stores keeps no other waiting until it is committed.

        Args:
            connection: a `psycopg.Connection` or `psycopg.AsyncConnection`.
        """
        return await self._opened().joined(connection)
