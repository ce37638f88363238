"""An open store: a writing and two reading threads, and the jobs for them."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

from cano import (
    AuditEntry,
    ClaimedRun,
    Commit,
    HeldSlot,
    Retention,
    RunFilter,
    RunRecord,
    RunStatus,
    Signal,
    Signals,
    SlotRequest,
    StoreTransaction,
    StreamChunk,
    Transition,
)
from cano_durability.stores.lanes import Turns
from cano_msgspec.packing import payload_bytes

from cano_sqlite import attributes, audit, leases, pruning, queues, reading, records, signals, slots, streams
from cano_sqlite.job import Call, Job
from cano_sqlite.joined import Joined
from cano_sqlite.journal import Append
from cano_sqlite.news import News, newest
from cano_sqlite.reader import Reader
from cano_sqlite.rewriting import Rewrite
from cano_sqlite.settings import Settings
from cano_sqlite.shortcut import Shortcut
from cano_sqlite.tails import Tails
from cano_sqlite.transactions import Transactions
from cano_sqlite.url import CAPABILITIES
from cano_sqlite.worker import Worker
from cano_sqlite.writer import Writer


class Engine:
    """The threads of an open store. Writes are done in the order of the calls, but renewals first.

    See `StoreBackend` for the methods.
    """

    def __init__(self, settings: Settings, closed: str) -> None:
        self.capabilities = CAPABILITIES._replace(strict=settings.strict)
        self._settings = settings
        self._tails = Tails(settings.snapshot_every)
        self._turns = Turns()
        writer = Writer(settings, self._tails)
        self._writer = Worker("cano-sqlite writer", writer, closed)
        self._shortcut = Shortcut(self._writer, writer, self._tails)
        self._reader = Worker("cano-sqlite reader", Reader(settings, self._writer.opened), closed)
        # lists take long, and no short query waits for one
        self._lister = Worker("cano-sqlite lister", Reader(settings, self._writer.opened), closed)
        self._workers = self._writer, self._reader, self._lister
        writer.readers += [self._reader.ended, self._lister.ended]
        self._news = News(settings)
        self._transactions = Transactions(settings, closed, self._news)
        self._stop = weakref.finalize(self, _stop, *self._workers)  # if the store is never closed
        self._stop.atexit = False

    async def open(self) -> None:
        """Wait until both threads are ready. Raise the error of a thread that failed."""
        try:
            for worker in self._workers:
                await asyncio.wrap_future(worker.opened)
            self._news.begin(await self._reader.do(Call(newest)))
        except BaseException:
            self._stop()
            raise

    async def close(self) -> None:
        """Let the threads finish their jobs, and wait until they have ended."""
        await self._news.close()
        self._stop()
        self._transactions.is_closed = True
        own = self._transactions.worker
        if own is not None:
            own.stop()
        for worker in (*self._workers, own):
            if worker is None:
                continue
            await asyncio.wrap_future(worker.ended)
            worker.join()

    # writing

    async def create(self, run: RunRecord, entry: AuditEntry | None = None) -> RunRecord:
        with self._news.change(run.run_id, run.seq, run.status) if run.holder is None else nullcontext():
            created: RunRecord = await self._do(records.Create(run, self._tails), entry, lambda found: found is run)
            return created

    async def commit(self, commit: Commit, entry: AuditEntry | None = None) -> None:
        if entry is None and self._shortcut.take(commit):
            return
        made = self._do(Append(commit, self._tails), entry, lambda _: True)
        if commit.status is RunStatus.RUNNING:  # no kernel waits for news of that
            await made
            return
        with self._news.change(commit.run_id, commit.seq, commit.status):
            await made

    def _do(self, job: Job, entry: AuditEntry | None, effective: Callable[[Any], bool]) -> Coroutine[Any, Any, Any]:
        return self._writer.do(job if entry is None else audit.Audited(job, entry, effective))

    def claim(self, run_id: str, holder: str, now: float, expires: float) -> Coroutine[Any, Any, int | None]:
        work = partial(leases.claim, run_id=run_id, holder=holder, now=now, expires=expires, tails=self._tails)
        return self._writer.do(Call(work, run_id))

    def claim_ready(
        self,
        definitions: Sequence[tuple[str, str, str]],
        limit: int,
        holder: str,
        now: float,
        expires: float,
        skip: Sequence[str] = (),
        queues: Collection[str] | None = None,
    ) -> Coroutine[Any, Any, Sequence[ClaimedRun]]:
        work = partial(
            leases.claim_ready, definitions=tuple(definitions), limit=limit, holder=holder, now=now, expires=expires,
            skip=tuple(skip), queues=None if queues is None else tuple(queues), tails=self._tails, turns=self._turns,
        )  # fmt: skip
        return self._writer.do(Call(work))

    def renew(self, holder: str, tokens: Mapping[str, int], expires: float) -> Coroutine[Any, Any, Sequence[str]]:
        work = partial(leases.renew, holder=holder, tokens=tuple(tokens.items()), expires=expires)
        return self._writer.do(Call(work, urgent=True))

    def release(self, run_id: str, token: int) -> Coroutine[Any, Any, None]:
        return self._writer.do(Call(partial(leases.release, run_id=run_id, token=token), run_id))

    async def put_signal(self, run_id: str, signal: Signal, entry: AuditEntry | None = None) -> None:
        await self._put(run_id, signal, None, entry)

    async def put_signal_within(self, run_id: str, signal: Signal, most: int, entry: AuditEntry | None = None) -> bool:
        return await self._put(run_id, signal, most, entry) is not None

    async def _put(self, run_id: str, signal: Signal, most: int | None, entry: AuditEntry | None) -> bool | None:
        size = len(payload_bytes(signal.payload) or b"")
        put = Call(partial(signals.put, run_id=run_id, signal=signal, most=most), run_id, size)
        new: bool | None = await self._do(put, entry, bool)
        return new

    def rewrite(self, commit: Commit, entries: Sequence[Transition]) -> Coroutine[Any, Any, None]:
        return self._writer.do(Rewrite(commit, entries, self._tails))

    def rewrite_signals(self, run_id: str, some: Sequence[Signal]) -> Coroutine[Any, Any, None]:
        size = sum(len(payload_bytes(signal.payload) or b"") for signal in some)
        return self._writer.do(Call(partial(signals.rewrite, run_id=run_id, signals=tuple(some)), run_id, size))

    def delete(self, run_id: str, entry: AuditEntry | None = None) -> Coroutine[Any, Any, bool]:
        return self._do(Call(partial(records.delete, run_id=run_id, tails=self._tails), run_id), entry, bool)

    def add_audit(self, entries: Sequence[AuditEntry]) -> Coroutine[Any, Any, None]:
        return self._writer.do(Call(partial(audit.add, entries=tuple(entries))))

    def prune_audit(self, before: float, entry: AuditEntry) -> Coroutine[Any, Any, int]:
        return self._writer.do(Call(partial(audit.prune, before=before, entry=entry)))

    def delete_finished(
        self, run_ids: Sequence[str], now: float, entry: AuditEntry | None = None
    ) -> Coroutine[Any, Any, Sequence[str]]:
        work = partial(pruning.delete_finished, run_ids=tuple(run_ids), now=now, tails=self._tails, entry=entry)
        return self._writer.do(Call(work))

    async def begin(self, run_id: str, token: int, seq: int, timeout: float) -> StoreTransaction:
        self._writer.guard = self._transactions.refuse_inside
        return await self._transactions.begin(run_id, token, seq, timeout)

    async def joined(self, connection: Any) -> Joined:
        joined = Joined(self._settings, self.capabilities, connection)
        self._transactions.refuse_inside(joined.connection)
        await joined.begin()
        return joined

    # reading

    def load(self, run_id: str) -> Coroutine[Any, Any, RunRecord | None]:
        return self._reader.do(Call(partial(reading.load, run_id=run_id), run_id))

    def runs(self, filter: RunFilter) -> Coroutine[Any, Any, Sequence[RunRecord]]:
        times = filter.updated_after is not None or filter.updated_before is not None
        plain = filter.attributes is None and filter.error is None and not times and not filter.by_update
        return self._lister.do(Call(partial((reading if plain else attributes).runs, filter=filter)))

    def count(self, filter: RunFilter) -> Coroutine[Any, Any, int]:
        return self._lister.do(Call(partial(attributes.count, filter=filter)))

    def attribute_names(self) -> Coroutine[Any, Any, Sequence[tuple[str, bytes]]]:
        return self._reader.do(Call(attributes.names))

    def history(self, run_id: str) -> Coroutine[Any, Any, Sequence[Transition]]:
        return self.history_page(run_id, None, None)

    def history_page(
        self, run_id: str, after: int | None, limit: int | None
    ) -> Coroutine[Any, Any, Sequence[Transition]]:
        work = partial(reading.history, run_id=run_id, after=after, limit=limit)
        return self._lister.do(Call(work, run_id))

    def discard_history(self, run_id: str, before: int) -> Coroutine[Any, Any, None]:
        work = partial(pruning.discard_history, run_id=run_id, before=before, tails=self._tails)
        return self._writer.do(Call(work, run_id))

    def next_signal(self, run_id: str, name: str, own: bool = False) -> Coroutine[Any, Any, Signal | None]:
        return self._reader.do(Call(partial(signals.oldest, run_id=run_id, name=name, own=own), run_id))

    def signals(self, run_id: str) -> Coroutine[Any, Any, Signals]:
        return self._reader.do(Call(partial(signals.every, run_id=run_id), run_id))

    def audit(self, run_id: str | None, limit: int | None) -> Coroutine[Any, Any, Sequence[AuditEntry]]:
        return self._lister.do(Call(partial(audit.listed, run_id=run_id, limit=limit), run_id))

    def missing_recipients(self) -> Coroutine[Any, Any, Sequence[str]]:
        return self._lister.do(Call(signals.missing_recipients))

    def expired(
        self, retention: Retention, now: float, limit: int, after: tuple[float, str] | None = None
    ) -> Coroutine[Any, Any, Sequence[RunRecord]]:
        work = partial(pruning.expired, retention=retention, now=now, limit=limit, after=after)
        return self._lister.do(Call(work))

    def ready(self, now: float, workflows: Collection[str] | None = None) -> Coroutine[Any, Any, Sequence[RunRecord]]:
        names = None if workflows is None else tuple(workflows)
        return self._reader.do(Call(partial(reading.ready, now=now, workflows=names)))

    def queue_sizes(
        self, definitions: Sequence[tuple[str, str, str]], most: int
    ) -> Coroutine[Any, Any, Mapping[str, int]]:
        return self._reader.do(Call(partial(queues.sizes, definitions=tuple(definitions), most=most)))

    def queued_before(self, run: RunRecord, most: int) -> Coroutine[Any, Any, tuple[int, int]]:
        return self._reader.do(Call(partial(queues.before, run=run, most=most)))

    # streams

    def write_stream(self, run_id: str, token: int, chunks: Sequence[StreamChunk]) -> Coroutine[Any, Any, None]:
        work = partial(streams.write, run_id=run_id, token=token, chunks=tuple(chunks))
        return self._writer.do(Call(work, run_id, sum(len(chunk.value) for chunk in chunks)))

    def rewrite_stream(self, run_id: str, chunks: Sequence[StreamChunk]) -> Coroutine[Any, Any, None]:
        work = partial(streams.rewrite, run_id=run_id, chunks=tuple(chunks))
        return self._writer.do(Call(work, run_id, sum(len(chunk.value) for chunk in chunks)))

    def read_stream(
        self, run_id: str, channel: str, after: int, limit: int
    ) -> Coroutine[Any, Any, Sequence[StreamChunk]]:
        work = partial(streams.read, run_id=run_id, channel=channel, after=after, limit=limit)
        return self._reader.do(Call(work, run_id))

    def channels(self, run_id: str) -> Coroutine[Any, Any, Sequence[str]]:
        return self._reader.do(Call(partial(streams.channels, run_id=run_id), run_id))

    # slots

    def take_slots(self, request: SlotRequest, now: float, at: float | None = None) -> Coroutine[Any, Any, float]:
        return self._writer.do(Call(partial(slots.take, request=request, now=now, at=at), request.run_id))

    def give_slots(self, run_id: str, token: int, names: Sequence[str]) -> Coroutine[Any, Any, None]:
        return self._writer.do(Call(partial(slots.give, run_id=run_id, token=token, names=tuple(names)), run_id))

    def slots(self, names: Sequence[str] | None = None) -> Coroutine[Any, Any, Sequence[HeldSlot]]:
        return self._reader.do(Call(partial(slots.listed, names=None if names is None else tuple(names))))

    # notifications

    def watch_streams(self, tell: Callable[[str | None], None]) -> None:
        self._news.watch_streams(tell)

    def watch(self, tell: Callable[[str | None], None]) -> None:
        self._news.watch(tell)

    def attend(self, wanted: bool) -> None:
        self._news.attend(wanted)


def _stop(*workers: Worker) -> None:
    for worker in workers:
        worker.stop()
