"""The streams of one kernel's runs: makes their emitters, continues them with the runs, and reads them."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

from cano import (
    ConfigurationError,
    Run,
    RunInterruptedError,
    RunRecord,
    RunStatus,
    StreamChunk,
    StreamingStore,
    StreamItem,
)
from cano.engine.ports import Host

from cano_durability.keys import PHASES, STREAMS
from cano_durability.recovery.leases import journal_of
from cano_durability.recovery.waiting import Waiters
from cano_durability.stored_runs import StoredRuns
from cano_durability.streaming.chunks import Part, Span, Unit, add_span, broken, items_of, joined, without
from cano_durability.streaming.emitting import Emitter
from cano_durability.streaming.local import LocalStreams

PAGE = 16
"""The most chunks of one read."""
SOON = 0.2
"""Seconds between two questions of a reader whether the run has ended, while there are new items."""
_ORDER = {"prep": 0, "exec": 1, "post": 2}

Open = dict[str, list[tuple[Unit, Span]]]
"""The spans of items that do not count yet, with what has emitted them, by channel."""


class Streams:
    """The streams of the runs of one kernel. `cano.engine.ports.RunKeeper` documents the methods of the same names.

    Args:
        kernel, stored: the kernel, and its records of runs.
        waiters: the callers that wait for a change of a run.
        listen: begins to follow the store's notifications.
    """

    def __init__(self, kernel: Host, stored: StoredRuns, waiters: Waiters, listen: Callable[[], object]) -> None:
        self._kernel = kernel
        self._stored = stored
        self._waiters = waiters
        self._listen = listen
        self._lock = threading.Lock()
        self._watching = False
        self._stops: dict[str, set[asyncio.Event]] = {}  # of each reader, by run: set when the run stops here

    @property
    def _store(self) -> StreamingStore:
        """The store. Raises ConfigurationError if it keeps no streams."""
        if not self._stored.backend.capabilities.streams:
            raise ConfigurationError(
                f"the store {self._kernel.store_name} keeps no streams of runs; name one with the capability `streams`"
            )
        return cast(StreamingStore, self._stored.backend)

    # writing

    def emitter(self, run: Run) -> Emitter:
        """Return what writes the items of a run that is executed here; the same for each call."""
        with self._lock:  # branches may call this in threads
            if run.emitter is None:
                if run.journal is not None:
                    _ = self._store
                run.emitter = self._new(run)
            return cast(Emitter, run.emitter)

    def _new(self, run: Run) -> Emitter:
        journal = None if run.journal is None else journal_of(run)
        emitter = Emitter(
            run, self._stored.register(run.plan), LocalStreams() if journal is None else journal, self._kernel.clock,
            self._kernel.limits, self._waiters.notify,
        )  # fmt: skip
        if journal is not None:
            journal.emitter = emitter
        return emitter

    async def resume(self, run: Run, record: RunRecord, values: Mapping[str, Any]) -> None:
        """Continue the streams of a run that was claimed: supersede what its last attempts have emitted in vain.

        Args:
            run: the run.
            record: its record, as it was claimed.
            values: the engine's own values with which it continues.
        """
        emitter = self._new(run)
        run.emitter = emitter
        counted, open, following = await self._open(record)
        emitter.restore(counted, open, following)
        reached = _ORDER.get(next(iter(values.get(PHASES) or ("prep",))), 0)

        def repeated(unit: Unit) -> bool:
            if unit.branch is not None:
                return f"branch {unit.seq} {unit.branch}" not in values
            return _ORDER.get(unit.phase or "", reached) >= reached

        emitter.supersede(repeated)
        await emitter.write()

    async def last_chunks(self, record: RunRecord) -> tuple[Sequence[StreamChunk], Mapping[str, Any]]:
        """Return the marks with which a commit ends a run that no process executes; and a value of the engine's own."""
        if STREAMS not in record.own:
            return (), {}
        counted, open, following = await self._open(record)
        values, chunks = self._stored.values_of(record.workflow), []
        for channel, some in open.items():
            if spans := joined([span for _, span in some]):
                chunks.append(Part(None, (), spans).packed(values, channel, following[channel], record.run_id))
                following[channel] += 1
        counted = {channel: next - 1 for channel, next in following.items()}
        return chunks, values.encode_own({STREAMS: counted}, record.run_id)

    async def _open(self, record: RunRecord) -> tuple[dict[str, int], Open, dict[str, int]]:
        """Return the last offsets that count, the items after them that no mark has superseded, the next offsets."""
        counted: dict[str, int] = self._stored.values.own(STREAMS, record.own, record.run_id)
        open, following = Open(), {channel: last + 1 for channel, last in counted.items()}
        values = self._stored.values_of(record.workflow)
        for channel in counted:
            some: list[tuple[Unit, Span]] = []
            while chunks := await self._store.read_stream(record.run_id, channel, following[channel] - 1, PAGE):
                for chunk in chunks:
                    part = Part.unpacked(values, chunk, record.run_id)
                    if part.unit is None:
                        some = [(unit, span) for unit, old in some for span in without([old], part.superseded)]
                    elif part.unit.seq > record.seq:
                        add_span(some, part.unit, chunk)
                    following[channel] = chunk.last + 1
            open[channel] = some
        return counted, open, following

    # reading

    async def channels(self, run_id: str) -> Sequence[str]:
        """Return the names of the channels of a stored run."""
        await self._stored.record(run_id)
        return sorted(await self._store.channels(run_id))

    async def stream(
        self, run_id: str, channel: str, after: int, run: Run | None, follow: bool
    ) -> AsyncIterator[StreamItem]:
        """Yield the items of a channel after an offset, until the run has ended."""
        local = run if run is not None and run.journal is None and _is_local(run) else None
        values = self._stored.values_of((await self._stored.record(run_id)).workflow if run is None else run.workflow)
        if local is not None:
            local.when_stopped(lambda: self._waiters.notify(run_id))
        clock, asked = self._kernel.clock, -math.inf
        with self._reader(run_id) as stopped:
            while True:
                with self._waiters.waiter(run_id) as changed:
                    chunks = await self._read(run_id, channel, after, local)
                    if not chunks and not follow:
                        return
                    if not chunks:  # the last one may come before the answer
                        stopped.clear()
                        ended, asked = await self._has_ended(run_id, local), clock.monotonic()
                        if ended and not (chunks := await self._read(run_id, channel, after, local)):
                            return
                    for chunk in chunks:
                        if chunk.first > after + 1:
                            raise broken(run_id, channel, f"the items after offset {after} are missing")
                        for item in items_of(values, chunk, after, run_id):
                            after = item.offset
                            yield item
                    # then the run has probably ended, or it takes no time to learn that it has not
                    asks = stopped.is_set() or run_id in self._kernel.active
                    soon = asks or local is not None or changed.done() or asked + SOON <= clock.monotonic()
                    if chunks and soon:
                        continue
                    if self._kernel.closed:
                        message = f"the kernel closed before run {run_id} ended; ask another kernel for its stream"
                        raise RunInterruptedError(message, run_id=run_id)
                    self._watch()
                    pause = None if local is not None or not self._stored.durable else self._kernel.poll
                    await self._waiters.change(changed, SOON if chunks and pause is not None else pause)

    @contextmanager
    def _reader(self, run_id: str) -> Iterator[asyncio.Event]:
        """Yield the event of a new reader."""
        event, events = asyncio.Event(), self._stops.setdefault(run_id, set())
        events.add(event)
        try:
            yield event
        finally:
            events.remove(event)
            if not events:
                del self._stops[run_id]

    def stopped(self, run_id: str) -> None:
        """Note that this kernel stops executing a run."""
        for event in self._stops.get(run_id, ()):
            event.set()

    async def _read(self, run_id: str, channel: str, after: int, local: Run | None) -> Sequence[StreamChunk]:
        if local is None:
            return await self._store.read_stream(run_id, channel, after, PAGE)
        streams = self.emitter(local).target
        return streams.read(channel, after, PAGE) if isinstance(streams, LocalStreams) else ()

    async def _has_ended(self, run_id: str, local: Run | None) -> bool:
        if local is not None:
            return local.status is not RunStatus.RUNNING and self.emitter(local).is_idle
        if run_id in self._kernel.active:
            return False
        return (await self._stored.record(run_id)).status.finished

    def _watch(self) -> None:
        """Follow the store's notifications of chunks, from the first reader on."""
        self._listen()
        watch = getattr(self._stored.backend, "watch_streams", None)
        if not self._watching and watch is not None and self._stored.backend.capabilities.notify:
            self._watching = True
            watch(self._notified)

    def _notified(self, run_id: str | None) -> None:
        for each in self._waiters.run_ids if run_id is None else (run_id,):
            self._waiters.notify(each)


def _is_local(run: Run) -> bool:
    return run.status is RunStatus.RUNNING or run.emitter is not None
