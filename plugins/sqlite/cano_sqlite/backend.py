"""`SqliteBackend`: runs in an SQLite file."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cano import (
    Capabilities,
    Commit,
    ConfigurationError,
    RunFilter,
    RunRecord,
    Signal,
    Signals,
    StoreUnavailableError,
    Transition,
)

from cano_sqlite.settings import Settings

if TYPE_CHECKING:
    from cano_sqlite.engine import Engine


class SqliteBackend:
    """Keeps runs in an SQLite file, which several processes may share.

    When `commit` returns, the commit is on disk. All that concurrent runs commit while the disk is busy is written
    with one sync. The event loop does not wait for the disk: a thread writes, another one reads; only a loop that has
    nothing else to do makes a lone run's commit itself. A write whose caller is cancelled is taken back, or, where it
    has begun, is done before the cancellation goes on: `load` tells.

    Args:
        path: the file; it is made where it is missing, in a folder that must be there.
        synchronous: "full": what was committed survives a power failure. "normal": it survives the process in any
            case, but a power failure may undo the last commits; those that remain are whole, and in order.
        busy_timeout: seconds for which a write waits for other processes that write, before it fails.
        snapshot_every: after how many commits of a run its journal is folded into its snapshot.
        strict: whether values are checked already when a task puts or gets them, not only when they are committed.

    Raises:
        ConfigurationError: an argument is wrong.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        synchronous: str = "full",
        busy_timeout: float = 30.0,
        snapshot_every: int = 100,
        strict: bool = False,
    ) -> None:
        name = os.fspath(path)
        if not isinstance(name, str) or name in ("", ":memory:") or "\0" in name:
            raise ConfigurationError(f"path must name a file, not {path!r}")
        self._settings = Settings(
            path=Path(name).absolute(),
            synchronous=synchronous,
            busy_timeout=busy_timeout,
            snapshot_every=snapshot_every,
            strict=strict,
        )
        self.capabilities = Capabilities(durable=True, encoded=True, strict=strict)
        self._engine: Engine | None = None
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "not open" if self._engine is None else "open"
        return f"<SqliteBackend {str(self._settings.path)!r}, {state}>"

    async def exists(self) -> bool:
        """Whether the file is there; `open` would make it. Nothing is made.

        Raises:
            StoreUnavailableError: that cannot be told.
        """
        try:
            await asyncio.to_thread(self._settings.path.stat)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise self._unavailable(f"cannot be looked for: {error.strerror or error}") from error
        return True

    async def open(self) -> None:
        """Open the file, making it and its tables where they are missing.

        Raises:
            StoreUnavailableError: it cannot be opened, or is no store of this version; or the backend was closed.
        """
        if self._engine is None and not self._closed:
            await asyncio.to_thread(_import_engine)
        if self._closed:
            raise self._unavailable("was closed; make a new backend")
        engine = self._engine
        if engine is None:
            engine = self._engine = _import_engine()(self._settings, str(self._unavailable("was closed")))
            self._stop = weakref.finalize(self, engine.stop)  # also when nobody has closed it
            self._stop.atexit = False
        try:
            await engine.opened()
        except Exception:
            if self._engine is engine:
                self._engine = None  # it may be tried again
                self._stop()
            raise

    async def close(self) -> None:
        """Finish all that was asked for, and close the file. Calls after it raise StoreUnavailableError."""
        self._closed = True
        if self._engine is not None:
            self._stop()
            await self._engine.ended()

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
        under_way = self._open_engine().commit(commit)
        if under_way is not None:
            await under_way

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

    def _open_engine(self) -> Engine:
        if self._engine is None or self._closed:
            raise self._unavailable("was closed" if self._closed else "is not open; await its open() first")
        return self._engine

    def _unavailable(self, why: str) -> StoreUnavailableError:
        return StoreUnavailableError(f"the store {self._settings.path} {why}")


def _import_engine() -> type[Engine]:
    """Import sqlite3 and msgspec, which only an open store needs. That takes a while."""
    from cano_sqlite.engine import Engine

    return Engine
