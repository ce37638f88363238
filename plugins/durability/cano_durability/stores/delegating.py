"""`LazyDurableBackend`: a `LazyBackend` that delegates the optional methods of stores, too."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Protocol, TypeVar

from cano import (
    AttributeStore,
    AuditEntry,
    ClaimedRun,
    ClaimingStore,
    Commit,
    HeldSlot,
    HistoryPagingStore,
    LazyBackend,
    LimitingStore,
    NotifyingStore,
    PruningStore,
    Retention,
    RewritingStore,
    RunFilter,
    RunRecord,
    Signal,
    SlotRequest,
    SlotStore,
    StreamChunk,
    StreamingStore,
    Transition,
)


class DurableStore(
    AttributeStore, ClaimingStore, HistoryPagingStore, LimitingStore, NotifyingStore, PruningStore, RewritingStore,
    SlotStore, StreamingStore, Protocol,
):  # fmt: skip
    """A store with all optional methods but those of transactions."""

    async def discard_history(self, run_id: str, before: int) -> None: ...
    async def rewrite_stream(self, run_id: str, chunks: Sequence[StreamChunk]) -> None: ...
    def watch_streams(self, tell: Callable[[str | None], None]) -> None: ...


DurableT = TypeVar("DurableT", bound=DurableStore)


class LazyDurableBackend(LazyBackend[DurableT]):
    """A `LazyBackend` for a store with all optional methods but those of transactions, which it delegates, too."""

    async def claim_ready(
        self,
        definitions: Sequence[tuple[str, str, str]],
        limit: int,
        holder: str,
        now: float,
        expires: float,
        skip: Sequence[str] = (),
        queues: Collection[str] | None = None,
    ) -> Sequence[ClaimedRun]:
        """See `QueueStore.claim_ready`."""
        more = () if queues is None else (queues,)
        return await self._opened().claim_ready(definitions, limit, holder, now, expires, skip, *more)

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

    async def rewrite_stream(self, run_id: str, chunks: Sequence[StreamChunk]) -> None:
        """See `RewritingStore`."""
        await self._opened().rewrite_stream(run_id, chunks)

    async def write_stream(self, run_id: str, token: int, chunks: Sequence[StreamChunk]) -> None:
        """See `StreamingStore.write_stream`."""
        await self._opened().write_stream(run_id, token, chunks)

    async def read_stream(self, run_id: str, channel: str, after: int, limit: int) -> Sequence[StreamChunk]:
        """See `StreamingStore.read_stream`."""
        return await self._opened().read_stream(run_id, channel, after, limit)

    async def channels(self, run_id: str) -> Sequence[str]:
        """See `StreamingStore.channels`."""
        return await self._opened().channels(run_id)

    async def count(self, filter: RunFilter) -> int:
        """See `AttributeStore.count`."""
        return await self._opened().count(filter)

    async def attribute_names(self) -> Sequence[tuple[str, bytes]]:
        """See `AttributeStore.attribute_names`."""
        return await self._opened().attribute_names()

    async def take_slots(self, request: SlotRequest, now: float, at: float | None = None) -> float:
        """See `SlotStore.take_slots`."""
        return await self._opened().take_slots(request, now, at)

    async def give_slots(self, run_id: str, token: int, names: Sequence[str]) -> None:
        """See `SlotStore.give_slots`."""
        await self._opened().give_slots(run_id, token, names)

    async def slots(self, names: Sequence[str] | None = None) -> Sequence[HeldSlot]:
        """See `SlotStore.slots`."""
        return await self._opened().slots(names)

    def watch_streams(self, tell: Callable[[str | None], None]) -> None:
        """See `StreamingStore`."""
        self._opened().watch_streams(tell)

    def watch(self, tell: Callable[[str | None], None]) -> None:
        """See `NotifyingStore.watch`."""
        self._opened().watch(tell)
