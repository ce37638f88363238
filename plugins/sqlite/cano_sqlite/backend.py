"""`SqliteBackend`: runs in an SQLite file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cano import ConfigurationError, JoinedStore, RunRecord, StoreTransaction
from cano.options import Seconds, place_name
from cano_durability.stores.delegating import LazyDurableBackend

from cano_sqlite.settings import Settings
from cano_sqlite.url import CAPABILITIES

if TYPE_CHECKING:
    from cano_sqlite.engine import Engine


class SqliteBackend(LazyDurableBackend["Engine"]):
    """A store that keeps runs in an SQLite file. Several processes can share the file.

    When `commit` returns, the commit is on disk. Commits that arrive while the disk is busy share one transaction and
    one sync. One thread writes, one reads, and one reads lists; so the event loop does not wait for the disk, nor a
    short query for a list. If the loop is otherwise idle, it commits a single run's step itself. A cancelled write is
    either withdrawn or completed before the cancellation is raised; `load` shows which.

    Args:
        path: the file. `open` creates it, but not its folder.
        synchronous: "full": commits survive a power failure. "normal": they survive a crash of the process; a power
            failure may undo the last commits, never half of one.
        busy_timeout: seconds, or a timedelta, that a write waits for other writing processes before it fails.
        snapshot_every: number of commits of a run after which its journal is compacted into its snapshot.
        strict: whether the codec checks values when a task puts or gets them, not only when a step commits.
        file_mode: the mode of the file if `open` creates it, whatever the umask.

    Raises:
        ConfigurationError: an argument is wrong.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        synchronous: str = "full",
        busy_timeout: Seconds = 30.0,
        snapshot_every: int = 100,
        strict: bool = False,
        file_mode: int = 0o600,
    ) -> None:
        name = os.fspath(path) if isinstance(path, os.PathLike) else path
        if not isinstance(name, str) or name in ("", ":memory:") or "\0" in name:
            raise ConfigurationError(f"path must name a file, not {path!r}")
        self._use(
            Settings(
                path=Path(name).absolute(),
                synchronous=synchronous,
                busy_timeout=busy_timeout,  # type: ignore[arg-type]  # its check returns seconds
                snapshot_every=snapshot_every,
                strict=strict,
                file_mode=file_mode,
            )
        )

    def _use(self, settings: Settings) -> None:
        self._settings = settings
        super().__init__(str(settings.path), CAPABILITIES._replace(strict=settings.strict))

    def scoped(self, namespace: str) -> SqliteBackend:
        """Return the part of the store with this name: a file beside this one, such as `runs.db@acme.db`.

        A name that has more than 40 characters, or others than a-z, 0-9, _ and -, is replaced by its hash.
        """
        path, part = self._settings.path, copy(self)
        part._use(replace(self._settings, path=path.with_name(f"{path.name}@{place_name(namespace)}.db")))
        return part

    def _load(self) -> Callable[[], Engine]:
        """Import sqlite3 and msgspec, which only an open store needs."""
        from cano_sqlite.engine import Engine

        return partial(Engine, self._settings, str(self._unavailable("was closed")))

    async def begin(self, run_id: str, token: int, seq: int, timeout: float) -> StoreTransaction:
        """See `TransactionalStore.begin`. All writers of the file wait until the transaction ends."""
        return await self._opened().begin(run_id, token, seq, timeout)

    async def joined(self, connection: Any) -> JoinedStore:
        """See `JoiningStore.joined`. All other writers of the file wait until the user ends the transaction.

        Args:
            connection: an `sqlite3.Connection`, in the thread of this call, or a connection of aiosqlite.
        """
        return await self._opened().joined(connection)

    async def queue_sizes(self, definitions: Sequence[tuple[str, str, str]], most: int) -> Mapping[str, int]:
        """See `QueueStore.queue_sizes`."""
        return await self._opened().queue_sizes(definitions, most)

    async def queued_before(self, run: RunRecord, most: int) -> tuple[int, int]:
        """See `QueueStore.queued_before`."""
        return await self._opened().queued_before(run, most)

    def attend(self, wanted: bool) -> None:
        """See `NotifyingStore`."""
        self._opened().attend(wanted)

    async def exists(self) -> bool:
        """Return whether the file exists. Create nothing.

        Raises:
            StoreUnavailableError: the system cannot look for the file.
        """
        import asyncio  # late: to name a store needs no asyncio

        try:
            await asyncio.to_thread(self._settings.path.stat)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise self._unavailable(f"cannot be looked for: {error.strerror or error}") from error
        return True
