"""`RedisBackend`: runs in a Redis server."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from cano import LazyBackend

from cano_redis.settings import Durability, Settings

if TYPE_CHECKING:
    from cano_redis.engine import Engine
    from cano_redis.server import Server

logger = logging.getLogger("cano.redis")


class RedisBackend(LazyBackend["Engine"]):
    """Keeps runs in a Redis server, which any number of processes and machines may share.

    When `commit` returns, the server has the commit; whether it is on its disk too is a matter of how the server is
    set up: see `durability`, and `require`. All that concurrent runs commit while the server is busy goes out
    together. A server that goes away is waited for, and what was under way is made once, whatever it had got before.

    Args:
        host, port: where the server listens.
        path: its Unix socket, in place of both.
        db: number of the database.
        username, password: who this is; shown nowhere.
        tls: whether the connection is encrypted.
        ssl_ca_certs: file with the authorities to trust; the system's by default.
        ssl_certfile, ssl_keyfile: files with a certificate of ours, and its key, for servers that want one.
        prefix: what the store's keys begin with. Stores with different prefixes share nothing.
        require: "always" or "everysec": refuse a server whose appendfsync promises less. "any": log a warning.
        retry_for: seconds for which a server that went away is waited for.
        timeout: seconds without an answer after which a connection is given up, and made anew.
        strict: whether values are checked already when a task puts or gets them, not only when they are committed.

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
        retry_for: float = 30.0,
        timeout: float = 15.0,
        strict: bool = False,
    ) -> None:
        self._settings = Settings(
            host=host, port=port, path=path, db=db, username=username, password=password, tls=tls,
            ssl_ca_certs=ssl_ca_certs, ssl_certfile=ssl_certfile, ssl_keyfile=ssl_keyfile, prefix=prefix,
            require=require, retry_for=retry_for, timeout=timeout, strict=strict,
        )  # fmt: skip
        super().__init__(self._settings.place, self._settings.capabilities)
        self._server: Server | None = None

    def _load(self) -> Callable[[], Engine]:
        """Import redis-py and msgspec, which only an open store needs. That takes half a second."""
        from cano_redis.engine import Engine

        return partial(Engine, self._settings, self._found, str(self._unavailable("was closed")))

    @property
    def durability(self) -> Durability | None:
        """What the server does before it acknowledges, as it was found when it was last connected to; None before."""
        return None if self._server is None else self._server.durability

    def watch(self, tell: Callable[[str | None], None]) -> None:
        """Call `tell` with a run's id soon after another backend did something that may let somebody go on.

        Args:
            tell: called in the event loop that opened the store; with None when news may have been lost, after the
                connection was.
        """
        self._opened().watch(tell)

    def _found(self, server: Server) -> None:
        """Note what was found at the other end; say it where it is new, and not as one would wish."""
        from cano_redis.server import warnings

        before, self._server = self._server, server
        said = () if before is None else warnings(before, self._settings)
        for each in warnings(server, self._settings):
            if each not in said:
                logger.warning(each)
