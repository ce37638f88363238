"""An open store: a writing connection, some that read, one that listens, and the works for them."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any

import psycopg
from cano import (
    AuditEntry,
    ClaimedRun,
    Commit,
    HeldSlot,
    Retention,
    RunFilter,
    RunRecord,
    Signal,
    Signals,
    SlotRequest,
    StoreError,
    StoreTransaction,
    StoreUnavailableError,
    StreamChunk,
    Transition,
)
from cano_durability.stores.lanes import Turns, is_new
from cano_msgspec.ends import Ends

from cano_postgres import attributes, audit, notices, pruning, queues, reading, signals, slots, streams
from cano_postgres.commits import Append
from cano_postgres.connection import check_parameters, check_server, connect
from cano_postgres.failures import passes, translated, unkept, unreachable
from cano_postgres.joined import Joined, Joiner
from cano_postgres.leases import Claim, ClaimReady, Release, Renew
from cano_postgres.listener import Listener
from cano_postgres.quick import QuickConnection
from cano_postgres.reader import Reader
from cano_postgres.records import Create, Delete
from cano_postgres.rewriting import rewriting
from cano_postgres.schema import is_there, migrate
from cano_postgres.settings import Settings
from cano_postgres.transactions import Transactions
from cano_postgres.url import CAPABILITIES
from cano_postgres.work import Work
from cano_postgres.writer import Writer


class Engine:
    """The connections of an open store. See `StoreBackend` for the methods."""

    def __init__(self, settings: Settings, closed: Callable[[], StoreUnavailableError]) -> None:
        self.capabilities = CAPABILITIES._replace(strict=settings.strict)
        self._settings = settings
        self._writer = Writer(settings, closed)
        self._turns = Turns()
        self._reader = Reader(settings, closed)
        self._listener = Listener(settings, self._writer.key)
        tell = partial(self._reader.ask, notices.tell, settings.schema, notices.sender(self._writer.key))
        self._ends = Ends(tell, logging.getLogger("cano.postgres"))
        channel = streams.channel_of(settings.schema)
        tell = partial(self._reader.ask, notices.tell, channel, notices.sender(self._writer.key))
        self._streamed = Ends(tell, logging.getLogger("cano.postgres"))
        self._streams = Listener(settings, self._writer.key, channel)
        self._joiner = Joiner(settings, self.capabilities, self._writer.key, self._attend)
        self._transactions = Transactions(settings, notices.sender(self._writer.key), self._committed, closed)

    async def exists(self) -> bool:
        """Return whether the tables exist. Raise the same errors as `open`."""
        check_parameters(self._settings)
        connection = await self._first_connection()
        try:
            return await is_there(connection, self._settings.schema)
        except psycopg.Error as error:
            raise translated(error, self._settings.label, None) from error
        finally:
            await connection.close()

    async def open(self) -> None:
        """Connect, and migrate the tables.

        Raises:
            ConfigurationError: the URL has an unknown option.
            StoreUnavailableError: the server cannot be reached, or cannot keep runs.
        """
        check_parameters(self._settings)
        connection = await self._first_connection()
        try:
            await check_server(connection, self._settings.label)
            await migrate(connection, self._settings.schema, self._settings.label)
        except BaseException as error:
            await connection.close()
            if isinstance(error, psycopg.Error):
                raise translated(error, self._settings.label, None) from error
            raise
        try:
            await self._writer.start(connection)
            await self._reader.open()
            await self._listener.start()
        except BaseException as error:
            await self.close()
            if isinstance(error, psycopg.Error):
                raise unreachable(error, self._settings.label) from error
            raise

    async def close(self) -> None:
        """Finish the calls under way, and disconnect."""
        await self._listener.close()
        await self._streams.close()
        await self._transactions.close()
        await self._writer.close()
        await self._ends.close()
        await self._streamed.close()
        await self._reader.close()

    async def _first_connection(self) -> QuickConnection:
        """Return a connection. Wait for a server that starts or is full; fail at once if it refuses, or is missing."""
        patience = self._settings.retry_for
        deadline = monotonic() + patience
        while True:
            try:
                return await connect(self._settings, QuickConnection)
            except (psycopg.Error, OSError) as error:
                waits = passes(error)
                if not waits or monotonic() >= deadline:
                    raise unreachable(error, self._settings.label, patience if waits else None) from error
            await asyncio.sleep(random.uniform(0.05, 0.2))

    # writing

    async def create(self, run: RunRecord, entry: AuditEntry | None = None) -> RunRecord:
        try:
            work: Work = Create(run, self._settings.snapshot_every)
            work = work if entry is None else audit.created(work, run, entry)
        except UnicodeError as error:
            raise unkept(error, run.run_id) from error
        while True:
            if await self._writer.do(work):
                return run
            there = await self.load(run.run_id)
            if there is not None:
                return there

    async def commit(self, commit: Commit, entry: AuditEntry | None = None) -> None:
        try:
            work = Append(commit, entry)
        except UnicodeError as error:
            raise unkept(error, commit.run_id) from error
        try:
            tail = await self._writer.do(work)
        finally:  # a cancelled commit may have been applied
            self._tell(commit)
        await self._fold_if_long(commit.run_id, tail)

    async def rewrite(self, commit: Commit, entries: Sequence[Transition]) -> None:
        while (work := await self._reader.ask(rewriting, commit, entries, run_id=commit.run_id)) is None:
            await self._fold(commit.run_id)
        await self._writer.do(work)

    async def rewrite_signals(self, run_id: str, some: Sequence[Signal]) -> None:
        await self._writer.do(signals.Rewrite(run_id, some))

    async def _fold(self, run_id: str) -> None:
        work = await self._reader.ask(reading.fold, run_id, run_id=run_id)
        if work is not None:
            await self._writer.do(work)

    async def discard_history(self, run_id: str, before: int) -> None:
        await self._fold(run_id)  # no entry that is needed for the data is deleted
        await self._writer.do(pruning.Discard(run_id, before))

    async def claim(self, run_id: str, holder: str, now: float, expires: float) -> int | None:
        token: int | None = await self._writer.do(Claim(run_id, holder, now, expires))
        return token

    async def claim_ready(
        self,
        definitions: Sequence[tuple[str, str, str]],
        limit: int,
        holder: str,
        now: float,
        expires: float,
        skip: Sequence[str] = (),
        names: Collection[str] | None = None,
    ) -> Sequence[ClaimedRun]:
        given = definitions, limit, holder, now, expires, skip, names, self._turns
        rows, entered = await self._writer.do(ClaimReady(*given))
        if entered and not rows:
            rows, _ = await self._writer.do(ClaimReady(*given))
        found = reading.claimed(rows)
        self._turns.claimed(each.record for each in found if each.record is not None and is_new(each.record))
        return found

    async def queue_sizes(self, definitions: Sequence[tuple[str, str, str]], most: int) -> Mapping[str, int]:
        return await self._reader.ask(queues.sizes, definitions, most)

    async def queued_before(self, run: RunRecord, most: int) -> tuple[int, int]:
        return await self._reader.ask(queues.before, run, most, run_id=run.run_id)

    async def renew(self, holder: str, tokens: Mapping[str, int], expires: float) -> Sequence[str]:
        lost: Sequence[str] = await self._writer.do(Renew(holder, tokens, expires), urgent=True)
        return lost

    async def release(self, run_id: str, token: int) -> None:
        await self._writer.do(Release(run_id, token))

    async def put_signal(self, run_id: str, signal: Signal, entry: AuditEntry | None = None) -> None:
        await self._put(run_id, signal, None, entry)

    async def put_signal_within(self, run_id: str, signal: Signal, most: int, entry: AuditEntry | None = None) -> bool:
        return await self._put(run_id, signal, most, entry)

    async def _put(self, run_id: str, signal: Signal, most: int | None, entry: AuditEntry | None) -> bool:
        try:
            work: Work = signals.Put(run_id, signal, most)
            work = work if entry is None else audit.sent(work, run_id, signal, entry)
        except UnicodeError as error:
            raise unkept(error, run_id) from error
        there: bool = await self._writer.do(work)
        return there

    async def write_stream(self, run_id: str, token: int, chunks: Sequence[StreamChunk]) -> None:
        try:
            work = streams.WriteStream(run_id, token, chunks)
        except UnicodeError as error:
            raise unkept(error, run_id) from error
        try:
            await self._writer.do(work)
        finally:
            self._streamed.add(run_id)

    async def rewrite_stream(self, run_id: str, chunks: Sequence[StreamChunk]) -> None:
        await self._writer.do(streams.RewriteStream(run_id, chunks))

    async def read_stream(self, run_id: str, channel: str, after: int, limit: int) -> Sequence[StreamChunk]:
        return await self._reader.ask(streams.read, run_id, channel, after, limit, run_id=run_id)

    async def channels(self, run_id: str) -> Sequence[str]:
        return await self._reader.ask(streams.channels, run_id, run_id=run_id)

    async def delete(self, run_id: str, entry: AuditEntry | None = None) -> bool:
        there = await self._reader.ask(reading.exists, run_id, run_id=run_id)
        work: Work = Delete(run_id, there)
        gone: bool = await self._writer.do(work if entry is None else audit.deleted(work, run_id, entry))
        return gone

    async def add_audit(self, entries: Sequence[AuditEntry]) -> None:
        if entries:
            await self._writer.do(audit.Add(entries))

    async def prune_audit(self, before: float, entry: AuditEntry) -> int:
        deleted: int = await self._writer.do(audit.Add([entry], before))
        return deleted

    async def delete_finished(
        self, run_ids: Sequence[str], now: float, entry: AuditEntry | None = None
    ) -> Sequence[str]:
        gone: Sequence[str] = await self._writer.do(pruning.DeleteFinished(run_ids, now, entry)) if run_ids else ()
        return gone

    async def begin(self, run_id: str, token: int, seq: int, timeout: float) -> StoreTransaction:
        return await self._transactions.begin(run_id, token, seq, timeout)

    async def _attend(self) -> None:
        """Wait until the writer is connected."""
        await self.renew("", {}, 0.0)

    async def joined(self, connection: Any) -> Joined:
        return await self._joiner.joined(connection)

    async def _committed(self, commit: Commit, tail: int) -> None:
        """Do what follows a commit in a transaction."""
        self._tell(commit)
        await self._fold_if_long(commit.run_id, tail)

    def _tell(self, commit: Commit) -> None:
        """Let other backends be notified of a commit."""
        if commit.release or commit.status.finished:
            self._ends.add(commit.run_id)
        if commit.chunks:
            self._streamed.add(commit.run_id)

    async def _fold_if_long(self, run_id: str, tail: int) -> None:
        """Compact a journal with that many entries after its snapshot."""
        if tail >= self._settings.snapshot_every:
            with suppress(StoreError):  # the commit is applied; the next one tries again
                await self._fold(run_id)

    # reading

    async def load(self, run_id: str) -> RunRecord | None:
        return await self._reader.ask(reading.load, run_id, run_id=run_id)

    async def runs(self, filter: RunFilter) -> Sequence[RunRecord]:
        times = filter.updated_after is not None or filter.updated_before is not None
        plain = filter.attributes is None and filter.error is None and not times and not filter.by_update
        return await self._reader.ask((reading if plain else attributes).runs, filter)

    async def count(self, filter: RunFilter) -> int:
        return await self._reader.ask(attributes.count, filter)

    async def attribute_names(self) -> Sequence[tuple[str, bytes]]:
        return await self._reader.ask(attributes.names)

    async def history(self, run_id: str) -> Sequence[Transition]:
        return await self.history_page(run_id, None, None)

    async def history_page(self, run_id: str, after: int | None, limit: int | None) -> Sequence[Transition]:
        return await self._reader.ask(reading.history, run_id, after, limit, run_id=run_id)

    async def next_signal(self, run_id: str, name: str, own: bool = False) -> Signal | None:
        return await self._reader.ask(signals.oldest, run_id, name, own, run_id=run_id)

    async def signals(self, run_id: str) -> Signals:
        return await self._reader.ask(signals.every, run_id, run_id=run_id)

    async def audit(self, run_id: str | None, limit: int | None) -> Sequence[AuditEntry]:
        return await self._reader.ask(audit.listed, run_id, limit, run_id=run_id)

    async def missing_recipients(self) -> Sequence[str]:
        return await self._reader.ask(signals.missing_recipients)

    async def expired(
        self, retention: Retention, now: float, limit: int, after: tuple[float, str] | None = None
    ) -> Sequence[RunRecord]:
        return await self._reader.ask(pruning.expired, retention, now, limit, after)

    async def ready(self, now: float, workflows: Collection[str] | None = None) -> Sequence[RunRecord]:
        return await self._reader.ask(reading.ready, now, workflows)

    # slots

    async def take_slots(self, request: SlotRequest, now: float, at: float | None = None) -> float:
        schema = self._settings.schema
        return await self._reader.ask(slots.take, schema, request, now, at, run_id=request.run_id)

    async def give_slots(self, run_id: str, token: int, names: Sequence[str]) -> None:
        for waiting in await self._reader.ask(slots.give, run_id, token, names, run_id=run_id):
            self._ends.add(waiting)

    async def slots(self, names: Sequence[str] | None = None) -> Sequence[HeldSlot]:
        return await self._reader.ask(slots.listed, names)

    # notifications

    def watch_streams(self, tell: Callable[[str | None], None]) -> None:
        self._streams.watch(tell)
        self._streams.live()

    def watch(self, tell: Callable[[str | None], None]) -> None:
        self._listener.watch(tell)
