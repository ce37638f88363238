"""`SqliteBackend`: runs in an SQLite file."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cano import ConfigurationError, LazyBackend

from cano_sqlite.settings import Settings

if TYPE_CHECKING:
    from cano_sqlite.engine import Engine


class SqliteBackend(LazyBackend["Engine"]):
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
        super().__init__(str(self._settings.path), self._settings.capabilities)

    def _load(self) -> Callable[[], Engine]:
        """Import sqlite3 and msgspec, which only an open store needs. That takes a while."""
        from cano_sqlite.engine import Engine

        return partial(Engine, self._settings, str(self._unavailable("was closed")))

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
