"""`RedisBackend`: runs in a Redis server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from cano import Capabilities, Commit, RunFilter, RunRecord, Signal, Signals, StoreUnavailableError, Transition

from cano_redis.settings import Durability, Settings

if TYPE_CHECKING:
    from cano_redis.engine import Engine
    from cano_redis.server import Server

logger = logging.getLogger("cano.redis")


class RedisBackend:
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
        self.capabilities = Capabilities(durable=True, encoded=True, strict=strict, notify=True)
        self._engine: Engine | None = None
        self._opening: asyncio.Lock | None = None
        self._closed = False
        self._server: Server | None = None

    def __repr__(self) -> str:
        state = "closed" if self._closed else "not open" if self._engine is None else "open"
        return f"<RedisBackend {self._settings.place!r}, {state}>"

    @property
    def durability(self) -> Durability | None:
        """What the server does before it acknowledges, as it was found when it was last connected to; None before."""
        return None if self._server is None else self._server.durability

    async def open(self) -> None:
        """Connect to the server, and look how it is set up.

        Raises:
            StoreUnavailableError: it cannot be reached, refuses, is too old, would lose runs, promises less than is
                required, or holds a store of a newer version; or the backend was closed.
        """
        if self._opening is None:
            self._opening = asyncio.Lock()
        async with self._opening:
            if self._engine is not None and not self._closed:
                return
            if not self._closed:
                await asyncio.to_thread(_import_engine)
            if self._closed:
                raise self._unavailable("was closed; make a new backend")
            engine = _import_engine()(self._settings, self._found, str(self._unavailable("was closed")))
            await engine.open()
            self._engine = engine
        if self._closed:
            await engine.close()

    async def close(self) -> None:
        """Finish all that was asked for, and disconnect. Calls after it raise StoreUnavailableError."""
        self._closed = True
        if self._engine is not None:
            await self._engine.close()

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
            StoreUnavailableError: the server was away for longer than `retry_for`; if it was sent before, it may have
                been made, which `load` tells once the server is back.
        """
        await self._open_engine().commit(commit)

    async def runs(self, filter: RunFilter) -> Sequence[RunRecord]:
        """The runs that match, newest first, without their data. A damaged one shows what is wrong as its error.

        Up to 256 runs are of one moment; longer lists are read in parts, each of a moment of its own.
        """
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
        """Call `tell` with a run's id soon after another backend did something that may let somebody go on.

        Args:
            tell: called in the event loop that opened the store; with None when news may have been lost, after the
                connection was.
        """
        self._open_engine().watch(tell)

    def _open_engine(self) -> Engine:
        if self._engine is None or self._closed:
            raise self._unavailable("was closed" if self._closed else "is not open; await its open() first")
        return self._engine

    def _unavailable(self, why: str) -> StoreUnavailableError:
        return StoreUnavailableError(f"the store {self._settings.place} {why}")

    def _found(self, server: Server) -> None:
        """Note what was found at the other end; say it where it is new, and not as one would wish."""
        from cano_redis.server import warnings

        before, self._server = self._server, server
        said = () if before is None else warnings(before, self._settings)
        for each in warnings(server, self._settings):
            if each not in said:
                logger.warning(each)


def _import_engine() -> type[Engine]:
    """Import redis-py and msgspec, which only an open store needs. That takes half a second."""
    from cano_redis.engine import Engine

    return Engine
