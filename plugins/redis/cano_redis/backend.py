"""`RedisBackend`: runs in a Redis server."""

from __future__ import annotations

import logging
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
    StreamChunk,
    Transition,
)
from cano.options import Seconds

from cano_redis.settings import Durability, Settings
from cano_redis.url import CAPABILITIES

if TYPE_CHECKING:
    from cano_redis.engine import Engine
    from cano_redis.server import Server

logger = logging.getLogger("cano.redis")


class RedisBackend(LazyBackend["Engine"]):
    """A store that keeps runs in a Redis server. Processes on any number of machines can share it.

    When `commit` returns, the server has the commit. Whether the commit is on the server's disk depends on the server's
    configuration: see `durability` and `require`. Commits that arrive while the server is busy are sent together. If
    the server goes away, calls wait for it, and each is done once.

    A backend belongs to the event loop that opened it.

    Args:
        host, port: where the server listens.
        path: its Unix socket, instead of host and port.
        db: number of the database.
        username, password: the credentials. They are not shown.
        tls: whether to encrypt the connection.
        ssl_ca_certs: file with the authorities to trust; by default the system's.
        ssl_certfile, ssl_keyfile: files with the client's certificate and key, if the server requires them.
        prefix: prefix of the store's keys. Stores with different prefixes share nothing.
        require: "always" or "everysec": refuse a server whose appendfsync is weaker. "any": log a warning instead.
        retry_for: seconds, or a timedelta, that a call waits for a server that cannot be reached before it fails.
        timeout: seconds, or a timedelta, to wait for an answer before reconnecting.
        strict: whether the codec checks values when a task puts or gets them, not only when a step commits.

    Raises:
        ConfigurationError: an argument is wrong.
    """

    def __init__(
        self,
        host: str = "localhost",
        port: int = 6379,
        *,
        path: str | None = None,
        db: int = 0,
        username: str | None = None,
        password: str | None = None,
        tls: bool = False,
        ssl_ca_certs: str | None = None,
        ssl_certfile: str | None = None,
        ssl_keyfile: str | None = None,
        prefix: str = "cano",
        require: str = "any",
        retry_for: Seconds = 30.0,
        timeout: Seconds = 15.0,
        strict: bool = False,
    ) -> None:
        settings = Settings(
            host=host, port=port, path=path, db=db, username=username, password=password, tls=tls,
            ssl_ca_certs=ssl_ca_certs, ssl_certfile=ssl_certfile, ssl_keyfile=ssl_keyfile, prefix=prefix,
            require=require, retry_for=retry_for, timeout=timeout,  # type: ignore[arg-type]  # their checks return seconds
            strict=strict,
        )  # fmt: skip
        self._use(settings)

    def _use(self, settings: Settings) -> None:
        self._settings = settings
        self._server: Server | None = None
        super().__init__(settings.place, CAPABILITIES._replace(strict=settings.strict))

    def scoped(self, namespace: str) -> RedisBackend:
        """Return the part of the store with this name: its keys begin with the prefix and the name."""
        part = copy(self)
        part._use(replace(self._settings, namespaces=(*self._settings.namespaces, namespace)))
        return part

    def _load(self) -> Callable[[], Engine]:
        """Import redis-py and msgspec, which only an open store needs. This takes half a second."""
        from cano_redis.engine import Engine

        return partial(Engine, self._settings, self._found, str(self._unavailable("was closed")))

    @property
    def durability(self) -> Durability | None:
        """The server's durability when the store last connected; None before `open`."""
        return None if self._server is None else self._server.durability

    async def put_signal_within(self, run_id: str, signal: Signal, most: int, audit: AuditEntry | None = None) -> bool:
        """See `LimitingStore.put_signal_within`."""
        return await self._opened().put_signal_within(run_id, signal, most, audit)

    async def history_page(self, run_id: str, after: int | None, limit: int | None) -> Sequence[Transition]:
        """See `HistoryPagingStore.history_page`."""
        return await self._opened().history_page(run_id, after, limit)

    async def discard_history(self, run_id: str, before: int) -> None:
        """See `HistoryPagingStore`."""
        await self._opened().discard_history(run_id, before)

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

    def watch_streams(self, tell: Callable[[str | None], None]) -> None:
        """See `StreamingStore`."""
        self._opened().watch_streams(tell)

    def watch(self, tell: Callable[[str | None], None]) -> None:
        """See `NotifyingStore.watch`."""
        self._opened().watch(tell)

    def _found(self, server: Server) -> None:
        """Remember the server's configuration, and log new warnings about it."""
        from cano_redis.server import warnings

        before, self._server = self._server, server
        said = () if before is None else warnings(before, self._settings)
        for each in warnings(server, self._settings):
            if each not in said:
                logger.warning(each)
