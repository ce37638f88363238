"""`PostgresBackend`: runs in a PostgreSQL database."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from cano import LazyBackend

from cano_postgres.settings import Settings
from cano_postgres.url import label, parameters_from_url

if TYPE_CHECKING:
    from cano_postgres.engine import Engine


class PostgresBackend(LazyBackend["Engine"]):
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
        super().__init__(self._settings.label, self._settings.capabilities)

    def _load(self) -> Callable[[], Engine]:
        """Import psycopg, which only an open store needs. That takes a while."""
        from cano_postgres.engine import Engine

        return partial(Engine, self._settings, partial(self._unavailable, "was closed"))

    async def exists(self) -> bool:
        """Whether its tables are there; `open` would make them. Nothing is made.

        Raises:
            ConfigurationError: the URL has an option that nobody knows.
            StoreUnavailableError: that cannot be told, since the server cannot be reached or lets nobody in.
        """
        return await (await self._make()).exists()

    def watch(self, tell: Callable[[str | None], None]) -> None:
        """Call `tell` with the id of a run whenever another backend did something by which it may go on.

        Args:
            tell: called in the event loop; with None where news may have been lost.
        """
        self._opened().watch(tell)
