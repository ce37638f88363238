"""`RedisBackend`: runs in a Redis server."""

from __future__ import annotations

import logging
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from cano.options import Seconds
from cano_durability.stores.delegating import LazyDurableBackend

from cano_redis.settings import Durability, Settings
from cano_redis.url import CAPABILITIES

if TYPE_CHECKING:
    from cano_redis.engine import Engine
    from cano_redis.server import Server

logger = logging.getLogger("cano.redis")


class RedisBackend(LazyDurableBackend["Engine"]):
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

    def _found(self, server: Server) -> None:
        """Remember the server's configuration, and log new warnings about it."""
        from cano_redis.server import warnings

        before, self._server = self._server, server
        said = () if before is None else warnings(before, self._settings)
        for each in warnings(server, self._settings):
            if each not in said:
                logger.warning(each)
