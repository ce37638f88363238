"""`SqliteBackend`: runs in an SQLite file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cano import (
    AuditEntry,
    ClaimedRun,
    Commit,
    ConfigurationError,
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

from cano_sqlite.settings import Settings
from cano_sqlite.url import CAPABILITIES

if TYPE_CHECKING:
    from cano_sqlite.engine import Engine


class SqliteBackend(LazyBackend["Engine"]):
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

    async def begin(self, run_id: str, token: int, seq: int, timeout: float) -> StoreTransaction:
        """See `TransactionalStore.begin`. All writers of the file wait until the transaction ends."""
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

    def attend(self, wanted: bool) -> None:
        """See `NotifyingStore`."""
        self._opened().attend(wanted)

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
